"""Protects: what is recorded and said of clocks, and how long a GPU is warmed up for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.runtime.warmup import APART, LONGEST_S, WINDOW_S, steady, warm_until_steady
from pipeline.report.clocks import line
from pipeline.results.clocks import Clocks, clocks_of, summarise


def gpu(mhz: int, low: int = 306, high: int = 1020) -> dict[str, Any]:
    return {"gpu": {"mhz": mhz, "min_mhz": low, "max_mhz": high}}


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        (
            [gpu(306), gpu(918), gpu(612)],
            "clocks were not locked: GPU 306 to 918 MHz of at most 1,020; run sudo jetson_clocks for steadier figures",
        ),
        ([gpu(1020, 1020), gpu(1020, 1020)], "clocks were locked: GPU 1,020 MHz"),
        # Locked before, let go meanwhile.
        (
            [gpu(1020, 1020), gpu(1020)],
            "clocks were not locked: GPU 1,020 MHz; run sudo jetson_clocks for steadier figures",
        ),
        (
            [{"gpu": {"mhz": 1980, "max_mhz": 2520}, "memory": {"mhz": 9501, "max_mhz": 9501}}],
            "GPU 1,980 MHz of at most 2,520 (whether it was locked cannot be read); memory 9,501 MHz",
        ),
        (
            [gpu(918, 918, 918) | {"memory": {"mhz": 3199, "locked": True}}],
            "clocks were locked: GPU 918 MHz; memory locked at 3,199 MHz",
        ),
        ([{"cpu": {"mhz": 730, "governor": "schedutil"}}], "CPU 730 MHz, governor schedutil"),
        ([{"cpu": {"mhz": 1728, "governor": "performance"}}], ""),
    ],
)
def test_clocks_are_told_in_a_line(readings: list[dict[str, Any]], said: str) -> None:
    found = summarise(readings, {})
    assert found is not None and line(found) == said


def test_nothing_is_said_where_nothing_can_be_read() -> None:
    assert summarise([], {}) is None and summarise([{"cpu": {"online": "0-1"}}, {}], {}) is None
    assert clocks_of({}, gpu=True) is None and clocks_of({"clocks": None}, gpu=True) is None
    only_gpu = {"clocks": Clocks.model_validate(summarise([gpu(306)], {})).model_dump()}
    assert clocks_of(only_gpu, gpu=False) is None, "an engine on the CPU does not mind the GPU"


def test_before_after_and_the_extremes_are_kept() -> None:
    warm = {"jetson/fp16": {"seconds": 5.1, "mhz": [306, 918, 612], "steady": False}}
    found = summarise([gpu(306), gpu(1020), gpu(204), gpu(612)], warm)
    assert found is not None and found.gpu is not None
    assert (found.gpu.before, found.gpu.after, found.gpu.low, found.gpu.high) == (306, 612, 204, 1020)
    assert "did not settle in the warm-up of jetson/fp16" in line(found)
    assert Clocks.model_validate(found.model_dump()) == found


class Device:
    """A GPU whose clock takes these values, one a window, and a time that goes on with each query."""

    def __init__(self, values: list[float | None]) -> None:
        self.values: Iterator[float | None] = iter(values)
        self.seconds, self.queries = 0.0, 0

    def query(self) -> None:
        self.queries += 1
        self.seconds += 0.01

    def mhz(self) -> float | None:
        return next(self.values)

    def clock(self) -> float:
        return self.seconds


@pytest.mark.parametrize(
    ("values", "windows", "settled"),
    [
        ([306, 306, 306, 306], 3, True),  # the first is only asked whether it can be read
        ([306, 306, 612, 918, 1020, 1020, 1015], 6, True),
        ([306, *([306, 1020] * 20)], int(LONGEST_S / WINDOW_S), False),  # never: not for ever
    ],
)
def test_the_warm_up_ends_when_the_clock_is_steady(
    values: list[float | None], windows: int, settled: bool
) -> None:
    device = Device(values)
    found = warm_until_steady(device.query, device.mhz, device.clock)
    assert found is not None and (len(found.mhz), found.steady) == (windows, settled)
    assert found.seconds <= LONGEST_S + WINDOW_S + 0.02


def test_without_a_clock_the_fixed_warm_up_must_do() -> None:
    """Nothing runs; and one that vanishes ends it."""
    device = Device([None])
    assert warm_until_steady(device.query, device.mhz, device.clock) is None and device.queries == 0
    found = warm_until_steady(device.query, Device([306, 306, None]).mhz, device.clock)
    assert found is not None and found.mhz == [306] and not found.steady


@given(st.lists(st.floats(1, 5000), max_size=12))
def test_steady_means_three_alike(values: list[float]) -> None:
    last = values[-3:]
    assert steady(values) == (len(last) == 3 and (max(last) - min(last)) / max(last) <= APART)
