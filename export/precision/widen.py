"""FP16 graphs as FP32 ones, for libraries that choose the precision of each layer themselves (TensorRT 8.x)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export import graph

# Casts go; a Q/DQ pair belongs to its tensor; a constant has no arithmetic.
_WITHOUT_PRECISION = ("Cast", "Constant", "DequantizeLinear", "QuantizeLinear")


def widen(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph with FP32 in the place of FP16, and what the FP16 graph computes in FP32.

    Every FP16 number is one of FP32, so the constants, scales among them, keep their values; casts between the two
    go. Scales stay where they are, so a graph with FP16 Q/DQ (opset 19) becomes one with FP32 Q/DQ.

    Args:
        model: FP32, FP16, or INT8 with an FP16 remainder; not changed.

    Returns:
        The graph, and the names of the nodes whose results were FP32 before, in its order; none where nothing is FP16.

    Raises:
        ExportError: the shapes of the graph do not fit each other.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph.infer_shapes(wide)
    types = graph.value_types(wide)
    if TensorProto.FLOAT16 not in types.values():
        return wide, ()
    single = tuple(
        node.name
        for node in wide.graph.node
        if node.op_type not in _WITHOUT_PRECISION
        and all(types.get(name) == TensorProto.FLOAT for name in node.output if name)
    )
    for tensor in wide.graph.initializer:
        _widen_tensor(tensor)
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            elif attribute.name == "value":
                _widen_tensor(attribute.t)
    floats = {name for name, kind in types.items() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)}
    _drop_casts(wide, floats)
    graph.infer_shapes(wide)
    return wide, single


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _drop_casts(model: onnx.ModelProto, floats: set[str]) -> None:
    """Take out casts from FP32 to FP32, but for those that join an input of the graph to an output of it."""
    fixed = {value.name for value in model.graph.input} | {tensor.name for tensor in model.graph.initializer}
    published = {value.name for value in model.graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
        source = node.input[0] if node.op_type == "Cast" else ""
        if source not in floats or node.output[0] not in floats:
            kept.append(node)
        elif node.output[0] not in published:
            same[node.output[0]] = source
        elif source in fixed | published:
            kept.append(node)
        else:  # the published name goes to whoever makes the value
            for other in kept:
                for names in (other.input, other.output):
                    for index, name in enumerate(names):
                        names[index] = node.output[0] if name == source else name
            same |= {name: node.output[0] for name, known in same.items() if known == source}
            same[source] = node.output[0]
    graph.replace_nodes(model, kept)
