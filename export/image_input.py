"""The one input that an engine is built for: what a file says of it, and its open sizes made numbers.

Files from elsewhere have inputs of any number, type and shape; an engine here takes one, of images.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from export import graph
from export.errors import ExportError
from export.sizes import Sizes

_TYPES = (TensorProto.UINT8, TensorProto.FLOAT, TensorProto.FLOAT16)
_NEEDED = "give a classifier of images: one input of uint8, float32 or float16, the batch first"
_NAMES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}


def require_image_input(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    """The only input of a graph, if it is one of images whose sizes are known but for the batch.

    Args:
        model: the graph; inputs that have initializers are weights, as in files of before IR 4.
        name: of the file, for messages.

    Raises:
        ExportError: says every input's name, type and shape, and what is needed.
    """
    value = _only_input(model, name)
    opened = _open(value)
    if opened:
        given = " ".join(f"--dim {key}=224" for _, key in opened)
        raise ExportError(
            f"{name} leaves sizes of its input open: {spelled(value)}",
            f"say them: {'--size 224 for height and width, or ' if len(opened) <= 2 else ''}{given}",
        )
    return value


def fixed_copy(path: Path, sizes: Sizes, folder: Path) -> Path:
    """Write the ONNX file at `path`, its open sizes set, to `folder` by the same name; its batch stays as it is.

    Raises:
        ExportError: the file has no such open size, or more than two are left for the height and the width.
    """
    model = graph.load_model(path)
    value = _only_input(model, path.name)
    opened = _open(value)
    places = {key: place for place, key in opened} | {str(place): place for place, _ in opened}
    if unknown := [key for key in sizes.named if key not in places]:
        raise ExportError(
            f"{path.name} has no open size {unknown[0]!r}: {spelled(value)}",
            f"open are: {', '.join(key for _, key in opened) or 'none'}",
        )
    chosen = {places[key]: number for key, number in sizes.named.items()}
    left = [place for place, _ in opened if place not in chosen]
    if sizes.side is not None:
        if len(left) > 2 or not left:
            raise ExportError(
                f"which sizes of {path.name} are height and width is not known: {spelled(value)}",
                "say the others, such as --dim 1=3" if left else "leave --size out: no size is open",
            )
        chosen |= dict.fromkeys(left, sizes.side)
    dims = value.type.tensor_type.shape.dim
    renamed = {dims[place].dim_param: number for place, number in chosen.items() if dims[place].dim_param}
    for place, number in chosen.items():
        dims[place].dim_value = number
    for other in model.graph.output:
        for dim in other.type.tensor_type.shape.dim:
            if dim.dim_param in renamed:
                dim.dim_value = renamed[dim.dim_param]
    graph.infer_shapes(model)
    out = folder / path.name
    graph.save_model(model, out)
    return out


def spelled(value: onnx.ValueInfoProto) -> str:
    """An input in words, such as `image: float32 [N, 3, 224, 224]`."""
    name = value.name[:80]
    if not value.type.HasField("tensor_type"):
        return f"{name}: no tensor"
    kind = value.type.tensor_type.elem_type
    known = kind in TensorProto.DataType.values()
    shown = _NAMES.get(kind) or (TensorProto.DataType.Name(kind).lower() if known else f"type {kind}")
    if not value.type.tensor_type.HasField("shape"):
        return f"{name}: {shown} of unknown shape"
    shape = graph.shape_of(value)
    return f"{name}: {shown} [{', '.join(map(str, shape))}]" + ("" if shape else " (a single number)")


def _only_input(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    said = "; ".join(spelled(value) for value in inputs[:8])
    if len(inputs) != 1:
        raise ExportError(f"{name} has {len(inputs)} inputs{f': {said}' if said else ''}", _NEEDED)
    value: onnx.ValueInfoProto = inputs[0]
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type not in _TYPES or len(tensor.shape.dim) < 2:
        raise ExportError(f"{name} does not take images: its input is {said}", _NEEDED)
    return value


def _open(value: onnx.ValueInfoProto) -> list[tuple[int, str]]:
    """Place and name of the sizes, but the batch, that are no numbers; the place stands for a name that is missing."""
    dims = value.type.tensor_type.shape.dim
    return [
        (place, dim.dim_param or str(place))
        for place, dim in enumerate(dims)
        if place and not dim.HasField("dim_value")
    ]
