"""The inference requests and answers of the Open Inference Protocol v2, with JSON and binary tensors. Pure.

https://github.com/kserve/open-inference-protocol (inference_rest.md), with the extensions "binary tensor data",
"classification" and "raw binary request" of NVIDIA Triton (docs/protocol/extension_*.md).
"""

from __future__ import annotations

import json
import math
import re
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .http import HttpError, Response

if TYPE_CHECKING:
    from ..arrays import Array

DATATYPES = {"uint8": "UINT8", "float32": "FP32", "float16": "FP16"}
MOST_JSON = 4 << 20
"""Bytes of JSON: more of it holds up everybody else while it is read; binary tensors have no such limit."""
LENGTH_HEADER = "Inference-Header-Content-Length"
_MOST_NUMBERS = 1 << 20
"""In an answer as JSON; eight times as many as bytes."""
_BINARY_TYPE = "application/octet-stream"
_MOST_ID = 200
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_LONG_NUMBER = re.compile(rb"[0-9]{40}")


@dataclass(frozen=True)
class Signature:
    """The model as the protocol describes it."""

    name: str
    version: str
    platform: str
    input: str
    output: str
    shape: Tuple[int, ...]
    """Of one input, without the batch."""
    dtype: str
    """Of the input, numpy's name."""
    classes: Tuple[str, ...]
    most_images: int
    """In a request."""


@dataclass(frozen=True)
class Inference:
    """What a client asks for."""

    batch: Array
    """The engine's input, [N, ...]."""
    id: str = ""
    is_binary: bool = False
    """Whether the answer's tensor follows the JSON as bytes."""
    top: int = 0
    """So many classes instead of logits; 0: logits."""


def parse_inference(body: bytes, header_length: Optional[int], model: Signature) -> Inference:
    """A request in a body.

    Args:
        body: JSON, then the bytes of binary tensors.
        header_length: bytes of the JSON; None: all; 0: none, the body is the one tensor.
        model: which it is for.

    Raises:
        HttpError: it is no request for this model.
    """
    asked = _parsed(body, header_length, model)
    count = len(asked.batch) * (asked.top or len(model.classes))
    if count > (_MOST_NUMBERS * 8 if asked.is_binary else _MOST_NUMBERS):
        raise HttpError(
            413,
            "the answer would have %d numbers: send fewer images, or ask for binary data" % count,
            "too_large",
        )
    return asked


def _parsed(body: bytes, header_length: Optional[int], model: Signature) -> Inference:
    if header_length == 0:
        return Inference(_of_bytes(body, None, model), is_binary=True)
    end = len(body) if header_length is None else header_length
    if end > len(body):
        raise HttpError(400, "%s is %d, the body has %d bytes" % (LENGTH_HEADER, end, len(body)))
    found = _read_json(body[:end])
    inputs = found.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise HttpError(400, "inputs is no list of one input")
    id = found.get("id", "")
    if not isinstance(id, str) or len(id) > _MOST_ID:
        raise HttpError(400, "id is no text of at most %d characters" % _MOST_ID)
    is_binary, top = _wanted(found, model)
    return Inference(_tensor(inputs[0], memoryview(body)[end:], model), id, is_binary, top)


def inference_response(asked: Inference, logits: Array, model: Signature) -> Response:
    """The answer to a request: logits float32 [N, C], or the likeliest classes as `value:index:label`."""
    count = len(logits)
    if asked.top:
        texts = [text for row in logits for text in _classes(row, asked.top, model.classes)]
        described: Dict[str, Any] = {"datatype": "BYTES", "shape": [count, len(texts) // count]}
        data: Any = texts
        encoded = b"".join(_prefixed(text.encode("utf-8")) for text in texts) if asked.is_binary else b""
    else:
        described = {"datatype": "FP32", "shape": list(logits.shape)}
        data = logits.ravel().tolist() if not asked.is_binary else None
        encoded = logits.astype("<f4", copy=False).tobytes() if asked.is_binary else b""
    output = {"name": model.output, **described}
    if asked.is_binary:
        output["parameters"] = {"binary_data_size": len(encoded)}
    else:
        output["data"] = data
    found: Dict[str, Any] = {"model_name": model.name, "model_version": model.version, "outputs": [output]}
    if asked.id:
        found["id"] = asked.id
    text = to_json(found)
    if not asked.is_binary:
        return Response(200, text)
    return Response(200, text + encoded, _BINARY_TYPE, ((LENGTH_HEADER, str(len(text))),))


def to_json(value: Any) -> bytes:
    """Compact JSON."""
    return _ENCODER.encode(value).encode("utf-8", "replace")


def _read_json(text: bytes) -> Dict[str, Any]:
    if len(text) > MOST_JSON:
        raise HttpError(
            413,
            "more than %d bytes of JSON: send binary tensors, see docs/serving.md" % MOST_JSON,
            "too_large",
        )
    if _LONG_NUMBER.search(text):  # to read one takes the square of its length
        raise HttpError(400, "a number in the JSON has 40 digits or more")
    try:
        found = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise HttpError(400, "the request is no valid JSON") from None
    if not isinstance(found, dict):
        raise HttpError(400, "the request is no JSON object")
    return found


def _refuse_constant(text: str) -> None:
    raise ValueError(text)


def _wanted(found: Dict[str, Any], model: Signature) -> Tuple[bool, int]:
    """Whether the answer is binary, and how many classes it names; 0: logits."""
    is_binary = _flag(_parameters(found), "binary_data_output", False)
    outputs = found.get("outputs")
    if outputs is None or outputs == []:
        return is_binary, 0
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise HttpError(400, "outputs is no list of one output")
    if outputs[0].get("name") != model.output:
        raise HttpError(400, "the output is called %s" % model.output)
    parameters = _parameters(outputs[0])
    top = parameters.get("classification", 0)
    if type(top) is not int or top < 0:
        raise HttpError(400, "classification is no number of classes")
    return _flag(parameters, "binary_data", is_binary), min(top, len(model.classes))


def _parameters(of: Dict[str, Any]) -> Dict[str, Any]:
    found = of.get("parameters", {})
    if not isinstance(found, dict):
        raise HttpError(400, "parameters is no object")
    if any(name.startswith("shared_memory") for name in found):
        raise HttpError(400, "shared memory is not offered here")
    return found


def _flag(parameters: Dict[str, Any], name: str, default: bool) -> bool:
    found = parameters.get(name, default)
    if not isinstance(found, bool):
        raise HttpError(400, "%s is neither true nor false" % name)
    return found


def _tensor(given: Dict[str, Any], rest: memoryview, model: Signature) -> Array:
    if given.get("name") != model.input:
        raise HttpError(400, "the input is called %s" % model.input)
    if given.get("datatype") != DATATYPES[model.dtype]:
        raise HttpError(400, "the input's datatype is %s" % DATATYPES[model.dtype])
    shape = given.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise HttpError(400, "the input's shape is no list of whole numbers")
    if tuple(shape[1:]) != model.shape or not shape or shape[0] < 1:
        raise HttpError(400, "the input's shape is [N, %s]" % ", ".join(map(str, model.shape)))
    _bound(shape[0], model)
    size = _parameters(given).get("binary_data_size")
    if size is None:
        if len(rest):
            raise HttpError(400, "%d bytes follow the JSON, but no input has binary_data_size" % len(rest))
        return _of_json(given.get("data"), shape, model)
    if "data" in given:
        raise HttpError(400, "the input has both data and binary_data_size")
    if size != len(rest) or type(size) is not int:
        raise HttpError(400, "binary_data_size is not the %d bytes that follow the JSON" % len(rest))
    return _of_bytes(rest, shape[0], model)


def _of_bytes(data: Any, count: Optional[int], model: Signature) -> Array:
    """Little-endian values, row by row."""
    one = math.prod(model.shape) * np.dtype(model.dtype).itemsize
    whole = count if count is not None else len(data) // one
    if whole < 1 or len(data) != whole * one:
        raise HttpError(400, "an image has %d bytes, the tensor %d" % (one, len(data)))
    _bound(whole, model)
    values = np.frombuffer(data, np.dtype(model.dtype).newbyteorder("<"))
    return np.require(values, model.dtype, ["C", "A"]).reshape((whole, *model.shape))


def _of_json(data: Any, shape: Sequence[int], model: Signature) -> Array:
    """Numbers, nested as the shape says or flat."""
    if not isinstance(data, list):
        raise HttpError(400, "the input has no data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # older versions of numpy warn of uneven lists, and take them
            values = np.array(data)
            if values.dtype.kind not in "iuf" or values.shape not in ((math.prod(shape),), tuple(shape)):
                raise ValueError
            if (
                model.dtype == "uint8"
                and not ((values >= 0) & (values <= 255) & (values == np.rint(values))).all()
            ):
                raise ValueError
            found = values.astype(model.dtype).reshape(shape)
            if not np.isfinite(found).all():
                raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise HttpError(
            400, "the input's data are not %s numbers of the shape %s" % (DATATYPES[model.dtype], list(shape))
        ) from None
    return np.ascontiguousarray(found)


def _bound(count: int, model: Signature) -> None:
    if count > model.most_images:
        raise HttpError(413, "a request may have %d images" % model.most_images, "too_large")


def _classes(logits: Array, top: int, names: Sequence[str]) -> List[str]:
    order = np.argsort(-logits, kind="stable")[:top]
    return ["%f:%d:%s" % (logits[i], i, names[i]) for i in order]


def _prefixed(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text
