"""Protects: several streams really overlap, and a fixed rate charges what waits in line."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from export.errors import ExportError
from export.load import closed_loop, fixed_rate, rate_figures


def pause(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def test_streams_overlap_and_all_go_on_until_the_last_has_its_share() -> None:
    """Two streams that sleep 5 ms do twice the work of one in the same time."""
    both = closed_loop([pause(0.005), pause(0.005)], batch=3, boundary="engine", warmup_s=0.0, min_samples=40)
    assert 40 <= len(both.latency) <= 44 and both.batch == 3
    assert both.latency.min() >= 5.0
    assert both.wall_seconds * 1000 < 0.75 * both.latency.sum()


def test_a_stream_that_fails_ends_the_others() -> None:
    """The first error comes out, and nothing hangs."""

    def broken() -> None:
        raise ValueError("lost")

    for queries in ([broken], [pause(0.001), broken]):
        with pytest.raises(ValueError, match="lost"):
            closed_loop(queries, batch=1, boundary="engine", warmup_s=0.0, min_samples=10**6, max_seconds=60)
    with pytest.raises(ExportError, match="no queries"):
        closed_loop([], batch=1, boundary="engine")


def test_a_rate_that_is_kept() -> None:
    """Latency is the service time, arrivals do not drift, the throughput is the rate."""
    found = fixed_rate(pause(0.001), rate=100, batch=1, boundary="engine", warmup_s=0.0, min_samples=30)
    assert len(found.latency) == 30
    assert found.wall_seconds == pytest.approx(0.3, rel=0.1)
    figures = rate_figures(found, 100)
    assert figures["keeps_rate"] and figures["rate_fps"] == 100 and not figures["warnings"]


def test_a_rate_that_is_not_kept_grows_a_line() -> None:
    """A closed loop would show 10 ms for ever; who arrives last has waited for all before."""
    found = fixed_rate(pause(0.01), rate=200, batch=1, boundary="engine", warmup_s=0.0, min_samples=30)
    figures = rate_figures(found, 200)
    assert not figures["keeps_rate"] and figures["deadline_miss_percent"] == 100
    assert found.latency[-1] > 29 * 5
    assert "does not keep 200 a second" in figures["warnings"][0]


def test_one_stall_is_charged_to_all_that_wait_behind_it() -> None:
    """No coordinated omission: a stall of ten periods makes about ten late arrivals, not one."""
    calls = iter(range(10**6))

    def stalls_once() -> None:
        if next(calls) == 10:
            time.sleep(0.05)

    found = fixed_rate(stalls_once, rate=200, batch=1, boundary="engine", warmup_s=0.0, min_samples=60)
    figures = rate_figures(found, 200)
    assert 8 <= figures["deadline_misses"] <= 14 and figures["keeps_rate"]
    assert (found.arrays["service"] > 5).sum() <= 3
    with pytest.raises(ExportError, match="rate"):
        fixed_rate(stalls_once, rate=0, batch=1, boundary="engine")
