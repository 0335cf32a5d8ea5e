"""Protects: several streams really overlap, and a fixed rate charges what waits in line."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from export.errors import ExportError
from export.load import RateFigures, closed_loop, fixed_rate, rate_figures
from export.runtime.sampling import Limits


def pause(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def test_streams_overlap_and_all_go_on_until_the_last_has_its_share() -> None:
    """Two streams that sleep 5 ms do twice the work of one in the same time."""
    both = closed_loop([pause(0.005), pause(0.005)], Limits(0.0, 40), batch=3, boundary="engine")
    assert len(both.latency) >= 40 and both.batch == 3
    assert both.latency.min() >= 5.0
    assert both.wall_seconds * 1000 < 0.9 * both.latency.sum()


def test_a_stream_that_fails_ends_the_others() -> None:
    """The first error comes out, and nothing hangs."""

    def broken() -> None:
        raise ValueError("lost")

    for queries in ([broken], [pause(0.001), broken]):
        with pytest.raises(ValueError, match="lost"):
            closed_loop(queries, Limits(0.0, 10**6, 0.0, 60.0), batch=1, boundary="engine")
    with pytest.raises(ExportError, match="no queries"):
        closed_loop([], Limits(), batch=1, boundary="engine")


class Clock:
    """Time that passes only when it is asked for, or slept or worked away."""

    def __init__(self) -> None:
        self.ns = 0

    def perf_counter_ns(self) -> int:
        self.ns += 1000
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("export.load.time", made)
    return made


def test_a_rate_that_is_kept(clock: Clock) -> None:
    """Latency is the service time, arrivals do not drift, the throughput is the rate."""
    found = fixed_rate(
        lambda: clock.sleep(0.001), Limits(0.0, 30, max_seconds=60.0), rate=100, batch=1, boundary="engine"
    )
    assert len(found.latency) == 30
    assert found.latency == pytest.approx(np.full(30, 1.0), abs=0.01)
    assert found.wall_seconds == pytest.approx(0.3)
    figures = rate_figures(found, 100)
    assert figures == RateFigures(100, 0, 0.0, keeps_rate=True)


def test_a_rate_that_is_not_kept_grows_a_line(clock: Clock) -> None:
    """A closed loop would show 10 ms for ever; who arrives last has waited for all before."""
    found = fixed_rate(
        lambda: clock.sleep(0.01), Limits(0.0, 30, max_seconds=60.0), rate=200, batch=1, boundary="engine"
    )
    figures = rate_figures(found, 200)
    assert not figures.keeps_rate and figures.deadline_miss_percent == 100
    assert found.latency[-1] == pytest.approx(10 + 29 * 5, abs=0.1)
    (warning,) = figures.cautions
    assert warning.code == "rate_not_kept"
    assert warning.values == {"rate_fps": 200, "service_ms": pytest.approx(10, abs=0.1), "period_ms": 5}


def test_one_stall_is_charged_to_all_that_wait_behind_it(clock: Clock) -> None:
    """No coordinated omission: a stall of ten periods makes ten late arrivals, not one."""
    calls = iter(range(10**6))

    def stalls_once() -> None:
        clock.sleep(0.05 if next(calls) == 10 else 0.0001)

    found = fixed_rate(stalls_once, Limits(0.0, 60, max_seconds=60.0), rate=200, batch=1, boundary="engine")
    figures = rate_figures(found, 200)
    # Waits of 50, 45.1, 40.2, ... ms: nine of them are not done within their 5 ms.
    assert figures.deadline_misses == 10 and figures.keeps_rate
    assert (found.arrays["service"] > 5).sum() == 1
    with pytest.raises(ExportError, match="rate"):
        fixed_rate(stalls_once, Limits(), rate=0, batch=1, boundary="engine")


def test_the_real_clock_keeps_a_slow_rate() -> None:
    """Sleeping and watching: 20 arrivals a second come when they should, within what a busy machine allows."""
    found = fixed_rate(pause(0.0), Limits(0.0, 6, max_seconds=60.0), rate=20, batch=1, boundary="engine")
    assert 0.29 <= found.wall_seconds < 10 and np.median(found.arrays["wait"]) < 1000
