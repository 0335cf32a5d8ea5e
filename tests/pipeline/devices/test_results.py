"""What jobs return: names of files are ours, arrays are what was asked for, samples belong to what was timed."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from pipeline.devices.messages import Unfit
from pipeline.devices.results import BUILD, INFER, TIME, TimesOf, npy_bytes, read_npy, timed_arrays

PATHS = [
    "/home/user/.ssh/authorized_keys",
    "../../../.bashrc",
    "a/../../b",
    "~/x",
    "logits.npy/../x",
    ".",
    "\0",
]
BUILT = {"seconds": 1.0, "memory_mb": {}, "file": "a.engine", "log": "build.log"}
INFERRED = {"logits": "logits.npy", "repeated": "repeated.npy", "count": 3, "seconds": 1.0, "facts": {}}
CASE = {"wall_seconds": 1.0, "queries": 2, "rounds": [1, 1], "notes": []}
TIMED: TimesOf = {
    "samples": "samples.f64", "index": {"a|1|engine": {"latency": (0, 2)}}, "cases": {"a|1|engine": CASE},
    "sustained": {}, "energy": {}, "readings": [], "golden": None, "facts": {"a": {}}, "power_mode": {}, "missing": [],
}  # type: ignore[typeddict-item] # fmt: skip
TWO = np.array([0.5, 0.25]).tobytes()


def _line(result: Any) -> bytes:
    return json.dumps(
        {"re": 1, "type": "outcome", "outcome": {"ok": True, "result": result, "seconds": 1}}
    ).encode()


def test_honest_results_are_read() -> None:
    assert BUILD.outcome(_line(BUILT)).outcome.ok and INFER.outcome(_line(INFERRED)).outcome.ok
    assert TIME.outcome(_line(TIMED)).outcome.ok


@pytest.mark.parametrize("path", PATHS)
def test_a_path_in_the_place_of_a_name_is_refused(path: str) -> None:
    """A device never chooses where something is written here: a log, logits, samples, golden images."""
    for job, result, key in (
        (BUILD, BUILT, "log"), (INFER, INFERRED, "logits"), (INFER, INFERRED, "repeated"), (TIME, TIMED, "samples"),
        (TIME, TIMED, "golden"),
    ):  # fmt: skip
        with pytest.raises(Unfit):
            job.outcome(_line({**result, key: path}))


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_an_array_that_was_asked_for_is_read(dtype: str) -> None:
    """The same as NumPy reads, and the limit of its file holds."""
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = _npy(array)
    assert len(content) <= npy_bytes((2, 3, 4), dtype)
    assert np.array_equal(read_npy(content, (2, 3, 4), dtype), array)


GOOD = np.zeros((2, 3), np.float32)
ARRAYS: dict[str, bytes] = {
    "nothing": b"",
    "no array": b"x" * 200,
    "a zip": b"PK\x03\x04" + b"\0" * 200,
    "objects": _npy(np.array([[object()] * 3] * 2, dtype=object)),
    "another shape": _npy(GOOD.T),
    "another type": _npy(GOOD.astype(np.float64)),
    "another order": _npy(np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))),
    "big endian": _npy(GOOD.astype(">f4")),
    "too short": _npy(GOOD)[:-4],
    "too long": _npy(GOOD) + b"\0" * 4,
    "a huge shape": _npy(GOOD).replace(b"(2, 3)", b"(2, 9" + b"9" * 12 + b")"),
    "a header that is code": _npy(GOOD).replace(b"'shape'", b"f()    "),
    "a header without end": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 200,
    "version 9": b"\x93NUMPY\x09\x00" + _npy(GOOD)[8:],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_another_array_is_refused(name: str) -> None:
    """Nothing is unpickled, evaluated, or allocated by what its header says."""
    with pytest.raises(Unfit):
        read_npy(ARRAYS[name], (2, 3), "float32")


def test_samples_are_found_by_their_index() -> None:
    result: Any = {**TIMED, "sustained": {"a": {**CASE, "rounds": []}}}
    result["index"] = {"a|1|engine": {"latency": (0, 2)}, "sustained|a": {"latency": (2, 1), "at": (3, 1)}}
    found = timed_arrays(TWO + TWO, result, ["a|1|engine", "b|1|engine"], ["a"])
    assert found["a|1|engine"]["latency"].tolist() == [0.5, 0.25] and found["sustained|a"]["at"].tolist() == [
        0.25
    ]


WRONG: dict[str, tuple[bytes, dict[str, Any]]] = {
    "not whole numbers": (TWO + b"x", {}),
    "beyond the end": (TWO, {"index": {"a|1|engine": {"latency": (1, 2)}}}),
    "far beyond the end": (TWO, {"index": {"a|1|engine": {"latency": (1 << 52, 2)}}}),
    "no samples": (TWO, {"index": {"a|1|engine": {"latency": (0, 0)}}}),
    "no latency": (TWO, {"index": {"a|1|engine": {"compute": (0, 2)}}}),
    "an unknown part": (TWO, {"index": {"a|1|engine": {"latency": (0, 2), "../x": (0, 2)}}}),
    "parts of different lengths": (TWO, {"index": {"a|1|engine": {"latency": (0, 2), "compute": (0, 1)}}}),
    "turns that do not add up": (TWO, {"cases": {"a|1|engine": {**CASE, "rounds": [5]}}}),
    "a case that was not asked for": (TWO, {"cases": {"x": CASE}, "index": {"x": {"latency": (0, 2)}}}),
    "an index of another case": (TWO, {"index": {"x": {"latency": (0, 2)}}}),
    "an engine that was not asked for": (TWO, {"energy": {"x": {}}}),
    "facts of another engine": (TWO, {"facts": {"x": {}}}),
    "NaN": (np.array([np.nan, 1.0]).tobytes(), {}),
    "negative": (np.array([-1.0, 1.0]).tobytes(), {}),
    "infinite": (np.array([np.inf, 1.0]).tobytes(), {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_samples_are_refused(name: str) -> None:
    """No case, part, engine or value that was not asked for comes into the statistics or into file names."""
    content, change = WRONG[name]
    result: Any = {**TIMED, **change}
    with pytest.raises(Unfit):
        timed_arrays(content, result, ["a|1|engine"], ["a"])
