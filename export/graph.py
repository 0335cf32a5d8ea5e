"""An ONNX graph: read and edited, its batch fixed, its constants folded.

Every function takes a `ModelProto` and changes it in place or returns facts about it; files are
`export.model_file`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from export.errors import ExportError, first_line
from export.model_file import load_model as load_model
from export.model_file import save_model as save_model

COMPUTE_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Shape arithmetic, what spreads a constant over a batch, and sine encodings of positions.
_FOLDABLE_OPS = (
    "Add", "Cast", "Concat", "ConstantOfShape", "Cos", "CumSum", "Div", "Expand", "Gather", "Mul", "Not", "Range",
    "Reshape", "Sin", "Slice", "Squeeze", "Sub", "Unsqueeze",
)  # fmt: skip
_GROWING_OPS = ("ConstantOfShape", "Expand", "Range")
_MOST_FOLDED = 2**20

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Name to tensor of every initializer."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def constant(model: onnx.ModelProto, name: str) -> Array | None:
    """The value of an initializer, or None where `name` is computed at run time."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    return None


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor name to the nodes that read it, in graph order."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            if name:
                readers.setdefault(name, []).append(node)
    return readers


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Tensor name to the node that writes it."""
    return {name: node for node in model.graph.node for name in node.output if name}


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Attribute name to Python value."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def set_initializer(model: onnx.ModelProto, name: str, value: Array) -> str:
    """Add an initializer, replacing one of the same name; returns `name`."""
    tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
    for index, existing in enumerate(model.graph.initializer):
        if existing.name == name:
            model.graph.initializer[index].CopyFrom(tensor)
            return name
    model.graph.initializer.append(tensor)
    return name


def replace_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make `nodes`, in this order, the nodes of the graph."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """Dimensions of a value: integers, or names where they are decided at run time."""
    dims: list[int | str] = []
    for dim in value.type.tensor_type.shape.dim:
        dims.append(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?"))
    return dims


def value_shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Shape of every value that carries one."""
    graph = model.graph
    return {
        value.name: shape_of(value)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type (`onnx.TensorProto.FLOAT` and so on) of every known value and initializer."""
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    types.update({tensor.name: tensor.data_type for tensor in graph.initializer})
    return types


def infer_shapes(model: onnx.ModelProto) -> None:
    """Recompute all intermediate shapes and types.

    Raises:
        ExportError: the shapes of the graph do not fit each other.
    """
    del model.graph.value_info[:]
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # InferenceError, and whatever else C++ makes of a graph that is none
        raise ExportError(f"the shapes of the ONNX graph do not fit: {first_line(error)}") from error
    model.graph.CopyFrom(inferred.graph)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove doc strings and the exporter's per-node records (they hold stack traces with local paths)."""
    graph = model.graph
    model.doc_string = ""
    graph.doc_string = ""
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.doc_string = ""
        del item.metadata_props[:]


def set_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Make `metadata`, sorted by key, the model's metadata."""
    del model.metadata_props[:]
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])


def prune(model: onnx.ModelProto) -> None:
    """Remove nodes that no output needs, initializers that no node reads, and opset imports left unused."""
    needed = {output.name for output in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if any(name in needed for name in node.output):
            kept.append(node)
            needed.update(name for name in node.input if name)
    replace_nodes(model, reversed(kept))
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    domains = {node.domain for node in model.graph.node} | {""}
    opsets = [
        entry
        for entry in model.opset_import
        if ("" if entry.domain == "ai.onnx" else entry.domain) in domains
    ]
    del model.opset_import[:]
    model.opset_import.extend(opsets)


def opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set."""
    return max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0)


def batch_size(model: onnx.ModelProto) -> int | None:
    """The fixed batch size of the first input, or None where it is dynamic.

    Raises:
        ExportError: the first input is no tensor with a batch.
    """
    first = _batch_of(model)
    return first if isinstance(first, int) else None


def _batch_of(model: onnx.ModelProto) -> int | str:
    value = model.graph.input[0]
    if not (shape := shape_of(value)):
        raise ExportError(f"the input {value.name} has no shape with a batch first", "export it with a shape")
    return shape[0]


def name_batch(model: onnx.ModelProto, name: str = "batch") -> None:
    """Give the open batch dimension a readable name; exporters number it."""
    old = _batch_of(model)
    if isinstance(old, int):
        return
    for value in (*model.graph.input, *model.graph.output):
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") and (dim.dim_param == old or index == 0):
                dim.dim_param = name
    infer_shapes(model)


def fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Make every occurrence of the dynamic batch dimension the number `batch`.

    Raises:
        ExportError: `batch` is below 1, or the model already has another fixed batch.
    """
    if batch < 1:
        raise ExportError(f"a batch of {batch} images is not possible", "use 1 or more")
    present = batch_size(model)
    if present is not None:
        if present != batch:
            raise ExportError(
                f"the ONNX file has a fixed batch of {present}, so it cannot be made {batch}",
                "start from the file with a dynamic batch",
            )
        return
    name = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output):
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") and (dim.dim_param == name or index == 0):
                dim.dim_value = batch
    infer_shapes(model)
    fold_constants(model)


def fold_constants(model: onnx.ModelProto) -> None:
    """Compute what depends on constants and on shapes that are known; large results stay computed."""
    from onnx.reference import ReferenceEvaluator

    shapes = value_shapes(model)
    known = {t.name for t in model.graph.initializer}
    published = {value.name for value in model.graph.output}
    folded = False
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        shape = shapes.get(node.input[0]) if node.op_type == "Shape" else None
        static = shape is not None and all(isinstance(dim, int) for dim in shape)
        if not static and (
            node.op_type not in _FOLDABLE_OPS or not all(name in known for name in node.input if name)
        ):
            kept.append(node)
            continue
        if static and shape is not None:
            bounds = {a.name: a.i for a in node.attribute}
            results = [np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], np.int64)]
        else:
            if _may_be_large(node, shapes):
                kept.append(node)
                continue
            inputs = {name: constant(model, name) for name in node.input if name}
            results = [np.asarray(r) for r in ReferenceEvaluator(_one_node(model, node)).run(None, inputs)]
        if sum(result.size for result in results) > _MOST_FOLDED or published & set(node.output):
            kept.append(node)
            continue
        for name, value in zip(node.output, results, strict=True):
            set_initializer(model, name, value)
            known.add(name)
        folded = True
    if folded:
        replace_nodes(model, kept)
        prune(model)
        infer_shapes(model)


def _may_be_large(node: onnx.NodeProto, shapes: Mapping[str, list[int | str]]) -> bool:
    """Whether a result is too large to be folded; one of unknown size is where few numbers may make many."""
    for name in node.output:
        shape = shapes.get(name)
        if shape is None or not all(isinstance(size, int) for size in shape):
            if node.op_type in _GROWING_OPS:
                return True
        elif math.prod(int(size) for size in shape) > _MOST_FOLDED:
            return True
    return False


def _one_node(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    types = value_types(model)
    inputs = [onnx.helper.make_tensor_value_info(n, types[n], None) for n in dict.fromkeys(node.input) if n]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output]
    piece = onnx.helper.make_graph([node], "node", inputs, outputs)
    return onnx.helper.make_model(piece, opset_imports=model.opset_import, ir_version=model.ir_version)


def order_nodes(model: onnx.ModelProto) -> None:
    """Order nodes so that each follows what it reads; keeps the present order where it can.

    Raises:
        ExportError: the graph has a cycle.
    """
    ready = {t.name for t in model.graph.initializer} | {v.name for v in model.graph.input} | {""}
    waiting = list(model.graph.node)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        later: list[onnx.NodeProto] = []
        for node in waiting:
            if all(name in ready for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ExportError("the graph has a cycle")
        waiting = later
    replace_nodes(model, ordered)


def preprocessing(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes between the image and the first convolution or matrix product, in graph order."""
    tainted = {model.graph.input[0].name}
    names: list[str] = []
    for node in model.graph.node:
        if node.op_type in COMPUTE_OPS or node.op_type == "QuantizeLinear":
            continue
        if any(name in tainted for name in node.input) and node.op_type != "Shape":
            names.append(node.name)
            tainted.update(node.output)
    return names


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a unique name made from its position and type; exporters' names hold counters."""
    for index, node in enumerate(model.graph.node):
        node.name = f"{index:04d}_{node.op_type}"
