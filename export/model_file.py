"""ONNX files: read and checked in one place, written whole or not at all.

A file may come from anywhere. Before anything is done with its graph, every tensor that it declares is compared with
the bytes that are there, every path of external data with the file's folder, and the graph with the standard's checker.
What its operators compute when they run is not bounded here.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, shape_inference

from export.errors import ExportError, first_line
from export.runtime.files import open_regular, write_bytes

_TWO_GIB = 2**31 - 2**20
_MOST_VALUES = 1 << 31
"""Values that an input, an output or an intermediate result may be said to have."""
_BITS = {
    name: bits
    for bits, names in ((4, ("INT4", "UINT4", "FLOAT4E2M1")), (2, ("INT2", "UINT2")))
    for name in names
}
_MOST_PARTS = 1 << 20
"""Messages and texts of a file; a network has some ten for each of its nodes."""
_AGAIN = "give another file, or export it again"


def load_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data.

    Raises:
        ExportError: as `check_file`.
    """
    model, external = _checked(Path(path))
    if external:
        try:
            onnx.load_external_data_for_model(model, str(Path(path).parent))
        except Exception as error:
            raise ExportError(
                f"{path}: its external data cannot be read: {first_line(error)}", _AGAIN
            ) from error
    return model


def check_file(path: Path) -> onnx.ModelProto:
    """The model of an ONNX file that can be read, without its external data.

    Raises:
        ExportError: the file is absent, is not ONNX, or does not hold what it declares.
    """
    return _checked(Path(path))[0]


def save_model(model: onnx.ModelProto, path: Path) -> int:
    """Check and write a model, whole or not at all, with the same bytes for the same model; returns its size.

    Weights go to `<path>.data` only where protobuf's 2 GiB limit leaves no choice.

    Raises:
        ExportError: `onnx.checker` refuses the model.
    """
    path = Path(path)
    if model.ByteSize() < _TWO_GIB:
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
            raise ExportError(f"the ONNX graph for {path.name} is not valid: {error}") from error
        data = model.SerializeToString(deterministic=True)
        write_bytes(path, data)
        return len(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
    onnx.checker.check_model(str(path), full_check=True)
    return path.stat().st_size + path.with_name(f"{path.name}.data").stat().st_size


def _checked(path: Path) -> tuple[onnx.ModelProto, bool]:
    """The model, and whether it has external data."""
    data = _content(path)
    try:
        _count_parts(data)
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise ExportError(f"{path} cannot be read as ONNX: {first_line(error)}", _AGAIN) from error
    if not model.graph.node or not model.graph.input or not model.graph.output:
        raise ExportError(f"{path} holds no ONNX graph with inputs and outputs", _AGAIN)
    external = False
    try:
        for graph in _graphs(model):
            for value in (*graph.output, *graph.value_info):
                _check_value(value, 0)
            for value in graph.input:
                _check_value(value, 1)
            for tensor in _tensors(graph):
                external |= tensor.data_location == TensorProto.EXTERNAL
                _check_tensor(tensor, path.parent)
    except ValueError as error:
        raise ExportError(f"{path}: {error}", _AGAIN) from error
    try:
        onnx.checker.check_model(str(path) if external else _with_shapes(model, data))
    except Exception as error:  # ValidationError, and whatever else C++ makes of it
        raise ExportError(f"{path} is not valid ONNX: {first_line(error)}", _AGAIN) from error
    return model, external


def _with_shapes(model: onnx.ModelProto, data: bytes) -> bytes:
    """The file as the checker takes it: values of unknown rank are common in other people's files, and harmless."""
    values = (*model.graph.input, *model.graph.output)
    if all(not v.type.HasField("tensor_type") or v.type.tensor_type.HasField("shape") for v in values):
        return data
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    shaped: bytes = copy.SerializeToString()
    return shaped


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(_TWO_GIB + 1)
    except FileNotFoundError:
        raise ExportError(f"there is no ONNX file {path}", "run the export first") from None
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}", _AGAIN) from error
    if len(data) > _TWO_GIB:
        raise ExportError(f"{path} has more than 2 GiB, which no ONNX file has", _AGAIN)
    if data.startswith(b"version https://git-lfs"):
        raise ExportError(f"{path} is a Git LFS pointer, not the file itself", "fetch it with `git lfs pull`")
    if not data:
        raise ExportError(f"{path} is empty", _AGAIN)
    return data


def _count_parts(data: bytes) -> None:
    """Raises ValueError if a file has so many messages and texts that they would fill the memory.

    An empty one takes 2 bytes in the file and 80 in memory. What is no protobuf is left to the parser, which stops at
    the same place.
    """
    parts = 0
    # Where each message ends, and the fields of its kind; the innermost is the last, as in the order of the bytes.
    inside: list[tuple[int, Any]] = [(len(data), onnx.ModelProto.DESCRIPTOR.fields_by_number)]
    place = 0
    while inside:
        end, fields = inside[-1]
        if place >= end:
            inside.pop()
            continue
        tag, place = (data[place], place + 1) if data[place] < 128 else _varint(data, place, end)
        if tag & 7 == 2:
            parts += 1
            if parts > _MOST_PARTS:
                raise ValueError(f"it has more than {_MOST_PARTS:,} parts")
            short = 0 <= place < end and data[place] < 128
            size, place = (data[place], place + 1) if short else _varint(data, place, end)
            field = fields.get(tag >> 3) if size and place >= 0 else None
            if field is not None and field.message_type is not None:
                inside.append((min(place + size, end), field.message_type.fields_by_number))
            else:
                place += size
        elif tag & 7 in (1, 5):
            place += 8 if tag & 7 == 1 else 4
        elif tag & 7 == 0:
            _, place = _varint(data, place, end)
        else:
            return
        if not 0 <= place <= end:
            return


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """A number of protobuf's and the place behind it, which is -1 if there is none."""
    value = 0
    place = place if place >= 0 else end
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
    return 0, -1


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and all that are inside of it; protobuf bounds the depth."""
    waiting = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while waiting or nodes:
        if waiting:
            graph = waiting.pop()
            nodes.extend(graph.node)
            yield graph
            continue
        for attribute in nodes.pop().attribute:
            waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    sparse = list(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            sparse += [
                *attribute.sparse_tensors,
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            ]
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _check_value(value: onnx.ValueInfoProto, least: int) -> None:
    """Raises ValueError if a size is below `least`, or there are more values than an image has."""
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
    if any(size < least for size in sizes):
        raise ValueError(f"{value.name[:80]!r} has the shape {sizes}; sizes are {least} or more")
    if math.prod(sizes) > _MOST_VALUES:
        raise ValueError(f"{value.name[:80]!r} of the shape {sizes} has more than {_MOST_VALUES:,} values")


def _check_tensor(tensor: TensorProto, folder: Path) -> None:
    """Raises ValueError if a tensor does not have the values that it declares."""
    name = f"the tensor {tensor.name[:80]!r}"
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise ValueError(f"{name} has the unknown type {tensor.data_type}")
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"{name} has the shape {list(tensor.dims)}")
    count, kind = math.prod(tensor.dims), TensorProto.DataType.Name(tensor.data_type)
    if kind == "STRING":
        present, expected = len(tensor.string_data), count
    else:
        bits = _BITS.get(kind) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        expected = -(-count * bits // 8)
        if tensor.data_location == TensorProto.EXTERNAL:
            present = _external_bytes(tensor, name, folder, expected)
        elif tensor.HasField("raw_data"):
            present = len(tensor.raw_data)
        else:  # one entry a value, two for a complex one, one a byte where values are smaller
            fields = (
                tensor.float_data,
                tensor.int32_data,
                tensor.int64_data,
                tensor.double_data,
                tensor.uint64_data,
            )
            present = sum(map(len, fields))
            expected = expected if kind in _BITS else count * (2 if kind.startswith("COMPLEX") else 1)
    if present != expected:
        raise ValueError(
            f"{name} of the shape {list(tensor.dims)} needs {expected:,} bytes or values, {present:,} are there"
        )


def _external_bytes(tensor: TensorProto, name: str, folder: Path, expected: int) -> int:
    """Bytes that a tensor has in a file beside the model's; that file lies inside of the folder, and is no link."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    numbers = [said.get("offset", "0"), said.get("length", str(expected))]
    if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in numbers):
        raise ValueError(
            f"{name} has external data from {numbers[0][:40]!r} on, of {numbers[1][:40]!r} bytes"
        )
    base = os.path.realpath(folder)
    place = os.path.normpath(os.path.join(base, location))
    try:
        inside = (
            location != "" and place.startswith(base.rstrip("/") + "/") and os.path.realpath(place) == place
        )
        facts = os.lstat(place)
    except (OSError, ValueError):
        raise ValueError(f"{name} has its data in {location[:200]!r}, which is not there") from None
    if (
        not inside
        or ".." in Path(location).parts
        or os.path.isabs(location)
        or not stat.S_ISREG(facts.st_mode)
    ):
        raise ValueError(
            f"{name} has its data in {location[:200]!r}, which is no file in the model's own folder"
        )
    offset, length = map(int, numbers)
    return min(length, max(facts.st_size - offset, 0))
