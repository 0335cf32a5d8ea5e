"""Protects: what a client of the Open Inference Protocol sends and gets, in JSON and in bytes, and what is refused."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from export.runtime.serve.http import HttpError
from export.runtime.serve.tensors import MOST_JSON, Signature, inference_response, parse_inference

MODEL = Signature("m", "3", "onnxruntime_onnx", "image", "logits", (2, 1, 3), "uint8", ("a", "b\n", "c"), 4)
FLOATS = Signature("m", "3", "onnxruntime_onnx", "image", "logits", (3, 1, 1), "float32", ("a", "b"), 4)
BATCH = np.arange(12, dtype=np.uint8).reshape(2, 2, 1, 3)


def _request(
    data: Any = None, shape: Any = (2, 2, 1, 3), datatype: str = "UINT8", **more: Any
) -> dict[str, Any]:
    source = {"name": "image", "shape": list(shape), "datatype": datatype}
    return {"inputs": [source | ({} if data is None else {"data": data})], **more}


def _parse(found: Any, rest: bytes = b"", model: Signature = MODEL, length: int | None = -1) -> Any:
    text = found if isinstance(found, bytes) else json.dumps(found).encode()
    return parse_inference(text + rest, len(text) if length == -1 else length, model)


def _binary(size: Any = 12, **more: Any) -> dict[str, Any]:
    found = _request(**more)
    found["inputs"][0]["parameters"] = {"binary_data_size": size}
    return found


def test_the_same_tensor_in_every_way_it_can_be_sent() -> None:
    for asked in (
        _parse(_request(BATCH.tolist())),
        _parse(_request(BATCH.ravel().tolist()), length=None),
        _parse(_request([float(value) for value in BATCH.ravel()])),
        _parse(_binary(), BATCH.tobytes()),
        _parse(b"", BATCH.tobytes(), length=0),
    ):
        assert asked.batch.dtype == np.uint8 and (asked.batch == BATCH).all()


def test_floats_that_are_not_aligned_in_the_body() -> None:
    values = np.array([[[[0.1]], [[-2]], [[3e38]]]], np.float32)
    for pad in range(4):
        found = _binary(12, shape=(1, 3, 1, 1), datatype="FP32", id="x" * pad)
        asked = _parse(found, values.tobytes(), FLOATS)
        assert asked.batch.flags.aligned and (asked.batch == values).all() and asked.id == "x" * pad
    nested = _parse(_request(values.tolist(), (1, 3, 1, 1), "FP32"), model=FLOATS)
    assert (nested.batch == values).all()


@pytest.mark.parametrize(
    "found",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"inputs": NaN}',
        b'{"inputs": ' + b"9" * 5000 + b"}",
        {},
        {"inputs": {}},
        {"inputs": []},
        {"inputs": [{}, {}]},
        {"inputs": ["image"]},
        _request(BATCH.tolist(), id=5),
        _request(BATCH.tolist(), id="x" * 300),
        _request(BATCH.tolist(), parameters=[]),
        _request(BATCH.tolist(), parameters={"binary_data_output": 1}),
        _request(BATCH.tolist(), outputs={}),
        _request(BATCH.tolist(), outputs=[{"name": "other"}]),
        _request(BATCH.tolist(), outputs=[{"name": "logits"}, {"name": "logits"}]),
        _request(BATCH.tolist(), outputs=[{"name": "logits", "parameters": {"classification": "3"}}]),
        _request(BATCH.tolist(), outputs=[{"name": "logits", "parameters": {"classification": -1}}]),
        _request(BATCH.tolist(), outputs=[{"name": "logits", "parameters": {"classification": True}}]),
        _request(BATCH.tolist(), outputs=[{"name": "logits", "parameters": {"shared_memory_region": "x"}}]),
        _request(BATCH.tolist(), datatype="FP32"),
        _request(BATCH.tolist(), datatype=["UINT8"]),  # type: ignore[arg-type]
        _request(BATCH.tolist(), shape=()),
        _request(BATCH.tolist(), shape=(2, 2, 3)),
        _request(BATCH.tolist(), shape=(0, 2, 1, 3)),
        _request(BATCH.tolist(), shape=(-1, 2, 1, 3)),
        _request(BATCH.tolist(), shape=(True, 2, 1, 3)),
        _request(BATCH.tolist(), shape=(2.0, 2, 1, 3)),
        _request(),
        _request({}),
        _request("AAAA"),
        _request([1, 2, 3]),
        _request([[1, 2], [3]]),
        _request([256] + [0] * 11),
        _request([-1] + [0] * 11),
        _request([0.5] + [0] * 11),
        _request([None] * 12),
        _request([True] * 12),
        _request(["1"] * 12),
        _request([10**30] + [0] * 11),
        _request([1e400] + [0] * 11),
        _binary("12"),
        _binary(11),
        _binary(True),
        _binary(-1),
        _binary(data=BATCH.tolist()),
    ],
)
def test_what_is_refused(found: Any) -> None:
    with pytest.raises(HttpError) as caught:
        _parse(
            found, BATCH.tobytes() if isinstance(found, dict) and "binary_data_size" in str(found) else b""
        )
    assert caught.value.status == 400 and not caught.value.closes


def test_bounds() -> None:
    for found, rest, length in (
        (_request([0] * 30, (5, 2, 1, 3)), b"", -1),
        (b"", bytes(30), 0),
        (b" " * (MOST_JSON + 1), b"", -1),
    ):
        with pytest.raises(HttpError) as caught:
            _parse(found, rest, length=length)
        assert caught.value.status == 413
    many = replace(MODEL, classes=tuple(map(str, range(400_000))))
    with pytest.raises(HttpError, match="ask for binary"):
        _parse(_request([0] * 18, (3, 2, 1, 3)), model=many)
    assert len(_parse(b"", bytes(18), many, 0).batch) == 3
    for rest, length in ((b"", 0), (bytes(7), 0), (b"{}", 3), (BATCH.tobytes(), -1)):
        with pytest.raises(HttpError):
            _parse(_request(BATCH.tolist()) if length == -1 else b"", rest, length=length)


def test_answers() -> None:
    logits = np.array([[0.5, 3, -1], [2, 2, 1e-8]], np.float32)
    found = json.loads(inference_response(_parse(_request(BATCH.tolist(), id="q")), logits, MODEL).body)
    assert (found["id"], found["model_name"], found["model_version"]) == ("q", "m", "3")
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [2, 3])
    assert np.array(output["data"], np.float32).tobytes() == logits.tobytes()
    wanted = {"name": "logits", "parameters": {"classification": 2}}
    found = json.loads(
        inference_response(_parse(_request(BATCH.tolist(), outputs=[wanted])), logits, MODEL).body
    )
    (output,) = found["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["3.000000:1:b\n", "0.500000:0:a", "2.000000:0:a", "2.000000:1:b\n"]
    assert "id" not in found


@pytest.mark.parametrize("top", [0, 9])
def test_binary_answers(top: int) -> None:
    logits = np.array([[0.5, 3, -1]], np.float32)
    asked = _parse(_request(
        BATCH[:1].tolist(), (1, 2, 1, 3), parameters={"binary_data_output": True},
        outputs=[{"name": "logits", "parameters": {"classification": top}}],
    ))  # fmt: skip
    response = inference_response(asked, logits, MODEL)
    (header,) = response.headers
    text, data = response.body[: int(header[1])], response.body[int(header[1]) :]
    (output,) = json.loads(text)["outputs"]
    assert header[0] == "Inference-Header-Content-Length" and output["parameters"]["binary_data_size"] == len(
        data
    )
    assert "data" not in output
    if not top:
        assert data == logits.tobytes()
        return
    texts = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + size])
        data = data[4 + size :]
    assert texts == [b"3.000000:1:b\n", b"0.500000:0:a", b"-1.000000:2:c"]
    assert output["shape"] == [1, 3]
