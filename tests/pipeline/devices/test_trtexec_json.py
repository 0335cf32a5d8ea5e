"""What trtexec exports is read in bounded memory, whatever C++ calls a number, and its clock is no finer than it is."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.devices.agent.errors import JobError
from pipeline.devices.agent.trtexec_json import (
    float_step,
    loads,
    outputs,
    printed_step,
    read_outputs,
    read_times,
    timings,
)
from tests.pipeline.devices.replay_trtexec import query

SPELLINGS = [
    ("nan", math.nan), ("-nan", math.nan), ("NaN", math.nan), ("nan(ind)", math.nan), ("-nan(ind)", math.nan),
    ("inf", math.inf), ("-inf", -math.inf), ("Infinity", math.inf), ("-Infinity", -math.inf), ("INF", math.inf),
]  # fmt: skip


def _exported(values: str, name: str = "logits") -> str:
    return f'[\n  {{ "name" : {json.dumps(name)}\n  , "dimensions" : "1x3"\n  , "values" : [ {values} ]\n  }}\n]\n'


@pytest.mark.parametrize(("text", "value"), SPELLINGS)
def test_every_spelling_of_a_number_that_is_none(text: str, value: float, tmp_path: Path) -> None:
    """At the beginning, in the middle, at the end; told as what it is, for the host to count."""
    path = tmp_path / "output.json"
    path.write_text(_exported(f"{text}, 1.5, {text}, -2e-07, {text}"))
    np.testing.assert_array_equal(read_outputs(str(path)), [value, 1.5, value, -2e-07, value])


def test_a_tensors_name_is_left_alone() -> None:
    """Names are the network's own words."""
    for name in ("nan", "-inf", "a, nan, b", 'say "inf"', "nan\\", "Infinity"):
        (found,) = loads(_exported("nan", name))
        assert found["name"] == name and math.isnan(found["values"][0])


@given(st.lists(st.floats(width=32), max_size=50))
def test_whatever_cpp_prints_is_read(values: list[float]) -> None:
    """To six digits, as its streams print it; a NaN keeps no sign."""
    read = outputs(_exported(", ".join(f"{value:.6g}" for value in values)))
    assert [math.isnan(value) for value in read] == [math.isnan(value) for value in values]
    known = [(a, b) for a, b in zip(read, values, strict=True) if not math.isnan(b)]
    assert all(a == float(f"{b:.6g}") for a, b in known)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_junk_is_told(text: str) -> None:
    """Never as a traceback."""
    with pytest.raises(JobError):
        outputs(text)
    with pytest.raises(JobError):
        timings(io.StringIO("[\n  { " + text), 1, "engine", ())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[1]", '[{"values": 3}]', '[{"values": [1]}, {"values": [2]}]', '[{"values": ["x"]}]',
     '[{"values": [nano]}]', "[" * 100_000, '[{"values": [1' + "0" * 400 + "]}]"],
)  # fmt: skip
def test_outputs_of_another_form_are_told(text: str) -> None:
    with pytest.raises(JobError, match="unknown format"):
        outputs(text)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """The device has little memory."""
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(JobError, match="at most"):
        read_outputs(str(path))
    with path.open("wb") as file:
        file.truncate((4 << 30) + 1)
    with pytest.raises(JobError, match="bytes of times"):
        read_times(str(path), 1, "engine", ())


def _trace(count: int, **changes: float | str) -> str:
    rows = [json.dumps(query(i, transfers=True) | (changes if i == count - 1 else {})) for i in range(count)]
    return "[\n  " + "\n, ".join(rows) + "\n]\n"


def test_times_are_read_one_query_after_the_other() -> None:
    """Across the blocks that the file is read in; `at` begins with 0."""
    found = timings(io.StringIO(_trace(20_000)), 1, "engine+copies", ("note",))
    assert len(found.latency) == 20_000 and found.notes[0] == "note"
    assert found.arrays["at"][0] == 0 and found.arrays["at"][-1] == pytest.approx(99.995)
    assert set(found.arrays["latency"]) == {2.375, 2.875} and found.wall_seconds == pytest.approx(
        99.9979, abs=1e-3
    )
    alone = timings(io.StringIO(_trace(10)), 1, "engine", ())
    assert set(alone.arrays) == {"latency", "compute", "enqueue", "at"} and alone.arrays["latency"][0] == 2.0


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("field", ["computeMs", "endD2hMs", "latencyMs"])
def test_times_that_are_not_finite_are_refused(field: str, value: str) -> None:
    """A statistic of them would be one of nothing."""
    text = _trace(3, **{field: "HERE"}).replace('"HERE"', value)
    with pytest.raises(JobError, match=rf"not finite \({field}"):
        timings(io.StringIO(text), 1, "engine", ())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[\n]\n", "timed no query"),
        ('[ { "latency": 1.0 } ]', "computeMs is missing"),
        ("", "cut off"),
        (_trace(3)[:-3], "cut off"),
        (_trace(3)[:-40], "cut off"),
        (_trace(3).replace("\n,", "\n;"), "before a query"),
        (_trace(3, computeMs="2"), "computeMs is no number"),
        (_trace(3, computeMs=True), "computeMs is no number"),
        ("[" + "x" * (3 << 20), "without an end"),
    ],
)
def test_a_trace_of_an_unknown_form_is_told(text: str, says: str) -> None:
    """Instead of a traceback or a wrong number; a full disk cuts such a file off."""
    with pytest.raises(JobError, match=says):
        timings(io.StringIO(text), 1, "engine", ())


@given(st.floats(2.0**-10, 1e8, width=32))
def test_the_step_is_that_of_32_bit_floats(value: float) -> None:
    """NumPy's opinion of the same; and of six digits, what printing loses."""
    assert float_step(value) == float(np.spacing(np.float32(value)))
    assert abs(float(f"{value:.6g}") - value) <= 0.51 * printed_step(value)


def test_a_long_run_says_how_coarse_its_clock_is() -> None:
    """120 s of stamps come in steps of 7.8 µs; a host time that is a difference of printed stamps is left out."""
    short, long = (
        timings(io.StringIO(_trace(10)), 1, "engine", ()),
        timings(io.StringIO(_trace(24_001)), 1, "engine", ()),
    )
    assert long.resolution_ms == pytest.approx(0.0078125) and short.resolution_ms < 1e-5
    assert "enqueue" in short.arrays and "enqueue" not in long.arrays
    assert any("steps of 1 ms" in note for note in long.notes)
    assert float_step(0.0) == printed_step(0.0) == 0.0
