"""FP16 files by casts: half inside, FP32 where range or precision needs it, uint8/FP32 at both ends."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export import graph
from export.errors import PrecisionError
from export.precision.names import matching_nodes

DEFAULT_KEEP_FP32: tuple[str, ...] = (
    "LayerNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "Softmax",
    "LogSoftmax",
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL2",
    "ReduceLogSumExp",
    "Pow",
    "Exp",
    "Log",
    "CumSum",
)
"""Operator types whose intermediate sums or powers leave FP16's range (65504) on ordinary activations."""

# These ops either refuse float16 in the ONNX standard or take FP32 parameters beside the data.
_ALWAYS_FP32 = (
    "Range",
    "Resize",
    "Upsample",
    "NonMaxSuppression",
    "Multinomial",
    "RandomNormal",
    "RandomUniform",
)
_ROUNDS_TO_ZERO = 2.0**-25
_PASSING = ("Sqrt", "Expand", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity")
_MAX_HALF = 65504.0
_SMALLEST_HALF = 2.0**-24

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def to_fp16(src: Path, dst: Path, *, keep_fp32: Sequence[str] = DEFAULT_KEEP_FP32) -> dict[str, Any]:
    """Write an FP16 version of the FP32 file `src` to `dst`.

    Args:
        src: FP32 ONNX file.
        dst: FP16 ONNX file; its input and output keep their types (uint8 or float32).
        keep_fp32: operator types, node names or shell patterns of node names that stay FP32.

    Stays FP32 whatever `keep_fp32` says: everything between the image and the first convolution or matrix
    product (raw 0..255 values and their normalisation), operators without an FP16 form, nodes with a constant
    beyond +-65504, and divisions whose divisor is kept from 0 by less than FP16 can hold. Neighbouring FP32
    nodes are joined without a round trip through FP16.

    Returns:
        `file`, `bytes`, `seconds`, `nodes`, `fp32_nodes` (type to count), `casts`, `weights`,
        `weights_flushed` (non-zero FP32 weights that are 0 in FP16).

    Raises:
        PrecisionError: the file is FP16 or quantised already, or a name in `keep_fp32` that is neither an
            operator type nor matches a node.
    """
    start = time.perf_counter()
    model = graph.load_model(Path(src))
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise PrecisionError(f"{Path(src).name} holds FP16 weights already", "give the FP32 file")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise PrecisionError(f"{Path(src).name} is quantised already", "give the FP32 file")
    facts = halve(model, keep_fp32)
    size = graph.save_model(model, Path(dst))
    return {"file": str(dst), "bytes": size, "seconds": time.perf_counter() - start, **facts}


def halve(model: onnx.ModelProto, keep_fp32: Sequence[str]) -> dict[str, Any]:
    """Convert an FP32 graph (with or without Q/DQ nodes of opset >= 19) to FP16 in place; returns counts."""
    graph.infer_shapes(model)
    types = graph.value_types(model)
    types.update({output: TensorProto.FLOAT for output in _untyped_outputs(model, types)})
    constants = graph.initializers(model)
    single = _fp32_nodes(model, keep_fp32, constants)
    halves: dict[str, str] = {}
    weights = flushed = 0
    half_of: dict[str, str] = {}  # FP32 tensor -> its FP16 copy
    single_of: dict[str, str] = {}  # FP16 tensor -> its FP32 copy
    produced_half: set[str] = set()
    outputs = {value.name for value in model.graph.output}
    nodes: list[onnx.NodeProto] = []
    used_single: set[str] = set()

    for node in model.graph.node:
        as_half = node.name not in single
        for index, name in enumerate(node.input):
            if types.get(name) != TensorProto.FLOAT:
                continue
            if name in constants:
                if as_half:
                    if name not in halves:
                        array = numpy_helper.to_array(constants[name])
                        weights += array.size
                        flushed += int(np.count_nonzero((array != 0) & (array.astype(np.float16) == 0)))
                        halves[name] = f"{name}_fp16"
                    node.input[index] = halves[name]
                else:
                    used_single.add(name)
            elif as_half and name not in produced_half:
                if name not in half_of:
                    half_of[name] = f"{name}_fp16"
                    nodes.append(_cast(name, half_of[name], TensorProto.FLOAT16))
                node.input[index] = half_of[name]
            elif not as_half and name in produced_half:
                if name not in single_of:
                    single_of[name] = f"{name}_fp32"
                    nodes.append(_cast(name, single_of[name], TensorProto.FLOAT))
                node.input[index] = single_of[name]
        nodes.append(node)
        if as_half:
            _halve_attributes(node)
            produced_half.update(name for name in node.output if types.get(name) == TensorProto.FLOAT)

    # Model outputs keep their FP32 type: the half result gets a new name, its cast the published one.
    for name in outputs & produced_half:
        inner = f"{name}_fp16_result"
        for node in nodes:
            for index, tensor in enumerate(node.input):
                if tensor == name:
                    node.input[index] = inner
            for index, tensor in enumerate(node.output):
                if tensor == name:
                    node.output[index] = inner
        nodes.append(_cast(inner, name, TensorProto.FLOAT))

    for name, half in halves.items():
        array = numpy_helper.to_array(constants[name]).astype(np.float16)
        graph.set_initializer(model, half, array)
    graph.replace_nodes(model, nodes)
    graph.prune(model)
    graph.infer_shapes(model)
    kept: dict[str, int] = {}
    for node in model.graph.node:
        if node.name in single and node.op_type != "Cast":
            kept[node.op_type] = kept.get(node.op_type, 0) + 1
    return {
        "nodes": len(model.graph.node),
        "fp32_nodes": dict(sorted(kept.items())),
        "casts": sum(node.op_type == "Cast" and node.name.startswith("to_fp") for node in model.graph.node),
        "weights": weights,
        "weights_flushed": flushed,
    }


def _fp32_nodes(
    model: onnx.ModelProto, keep_fp32: Sequence[str], constants: dict[str, TensorProto]
) -> set[str]:
    names = set(graph.preprocessing(model))
    names |= matching_nodes(model, keep_fp32, known_types=DEFAULT_KEEP_FP32)
    large = {
        name
        for name, tensor in constants.items()
        if tensor.data_type == TensorProto.FLOAT and _beyond_half(numpy_helper.to_array(tensor))
    }
    for node in model.graph.node:
        if node.op_type in _ALWAYS_FP32 or any(name in large for name in node.input):
            names.add(node.name)
    names |= _guards(model, constants)
    # A Q/DQ pair is one unit and follows its tensor into FP16; splitting it would leave two scale types.
    return {
        n.name
        for n in model.graph.node
        if n.name in names and n.op_type not in ("QuantizeLinear", "DequantizeLinear")
    }


def _guards(model: onnx.ModelProto, constants: dict[str, TensorProto]) -> set[str]:
    """Nodes with a scalar that FP16 rounds to 0, up to the division by their result.

    Such a scalar is the epsilon that keeps a divisor from 0; as 0 it would let 0 / 0 through.
    """
    tiny = {
        name
        for name, tensor in constants.items()
        if tensor.data_type == TensorProto.FLOAT
        and math.prod(tensor.dims) == 1
        and 0 < abs(numpy_helper.to_array(tensor).item()) <= _ROUNDS_TO_ZERO
    }
    names: set[str] = set()
    guarded: set[str] = set()
    for node in model.graph.node:
        if any(name in tiny for name in node.input):
            names.add(node.name)
            guarded.update(node.output)
        elif any(name in guarded for name in node.input) and node.op_type in (*_PASSING, "Div", "Reciprocal"):
            names.add(node.name)
            guarded.update(node.output if node.op_type in _PASSING else ())
    return names


def _beyond_half(array: Array) -> bool:
    finite = array[np.isfinite(array)]
    return bool(finite.size and np.abs(finite).max() > _MAX_HALF)


def _untyped_outputs(model: onnx.ModelProto, types: dict[str, int]) -> Iterable[str]:
    missing = [name for node in model.graph.node for name in node.output if name and name not in types]
    if missing:
        raise PrecisionError(
            f"the types of {len(missing)} tensors cannot be inferred (the first is {missing[0]!r})",
            "the graph holds an operator that is unknown to ONNX; keep FP32 for this model",
        )
    return missing


def _halve_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            half = numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(half, attribute.t.name))


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    kind = "fp16" if to == TensorProto.FLOAT16 else "fp32"
    return onnx.helper.make_node("Cast", [source], [target], f"to_{kind}_{source}", to=to)
