"""Load on an engine: several queries at once, or queries that come at a fixed rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.cautions import Caution
from export.engines.protocol import Query, Samples
from export.errors import ExportError
from export.runtime.sampling import Limits, warm_up

# Shortly before an arrival the clock is watched, because a sleeping thread wakes up late.
_WATCH_NS = 200_000


def closed_loop(queries: Sequence[Query], limits: Limits, *, batch: int, boundary: str) -> Samples:
    """Run queries at once, each again as soon as it has ended, in a thread of its own.

    All go on until each has its share of the samples, so that the last samples, too, are taken under full load.

    Args:
        queries: may run at the same time (`Engine.queries`).
        limits: when to stop; `min_samples` counts those of all together.
        batch: images a query.
        boundary: what a query includes.

    Returns:
        Samples of all, in the order in which they began.

    Raises:
        ExportError: no query.
    """
    if not queries:
        raise ExportError("there are no queries to run", "give at least one")
    clock = time.perf_counter_ns
    share = -(-limits.min_samples // len(queries))
    ready = threading.Barrier(len(queries))
    satisfied: list[bool] = []
    failed: list[bool] = []

    def stream(query: Query) -> tuple[list[int], list[int]]:
        begins: list[int] = []
        ends: list[int] = []
        try:
            warm_up(query, limits.warmup_s)
            ready.wait()
            start = clock()
            earliest, latest = limits.window_ns(start)
            mine = False
            while True:
                begins.append(clock())
                query()
                end = clock()
                ends.append(end)
                if not mine and len(ends) >= share and end >= earliest:
                    mine = True
                    satisfied.append(True)
                if len(satisfied) == len(queries) or end >= latest or failed:
                    return begins, ends
        except BaseException:
            failed.append(True)
            ready.abort()
            raise

    with ThreadPoolExecutor(len(queries)) as pool:
        futures = [pool.submit(stream, query) for query in queries]
        errors = [error for future in futures if (error := future.exception()) is not None]
        # A broken barrier is the echo of another stream's error.
        for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error
        found = [future.result() for future in futures]
    begins = np.concatenate([np.array(begin, np.int64) for begin, _ in found])
    ends = np.concatenate([np.array(end, np.int64) for _, end in found])
    order = np.argsort(begins, kind="stable")
    latency = (ends - begins)[order] / 1e6
    return Samples({"latency": latency}, batch, boundary, float(ends.max() - begins.min()) / 1e9)


def fixed_rate(
    query: Callable[[], object], limits: Limits, *, rate: float, batch: int, boundary: str
) -> Samples:
    """Run a query for each arrival of a source that does not wait, such as a camera.

    An arrival that finds the engine at work waits in line. Latency counts from the *scheduled* arrival, so that a
    query that takes too long is charged with the delay of those behind it (no coordinated omission).

    Args:
        query: runs one arrival.
        limits: when to stop; the warm-up is without pauses.
        rate: arrivals a second.
        batch: images an arrival.
        boundary: what a query includes.

    Returns:
        `latency` (scheduled arrival to end), `wait` (until it began), `service` (from there to the end).

    Raises:
        ExportError: the rate is not positive.
    """
    if not rate > 0:
        raise ExportError("the rate of arrivals must be positive", "for example 30 a second")
    clock, sleep = time.perf_counter_ns, time.sleep
    period = 1e9 / rate
    warm_up(query, limits.warmup_s)
    rows: list[tuple[int, int, int]] = []
    start = clock() + int(period)
    earliest, latest = limits.window_ns(start)
    while True:
        scheduled = start + int(len(rows) * period)
        left = scheduled - clock()
        if left > _WATCH_NS:
            sleep((left - _WATCH_NS) / 1e9)
        while (begin := clock()) < scheduled:
            pass
        query()
        end = clock()
        rows.append((scheduled, begin, end))
        if (len(rows) >= limits.min_samples and end >= earliest) or end >= latest:
            break
    times = np.array(rows, np.int64)
    arrived, began, ended = times[:, 0], times[:, 1], times[:, 2]
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "latency": (ended - arrived) / 1e6, "wait": (began - arrived) / 1e6, "service": (ended - began) / 1e6,
    }  # fmt: skip
    # From the first arrival to the end of the last one's slot: what keeps up has the throughput that was asked for.
    wall = max(int(arrived[-1] + period), int(ended[-1])) - int(arrived[0])
    return Samples(arrays, batch, boundary, wall / 1e9)


@dataclass(frozen=True)
class RateFigures:
    """What became of a fixed rate."""

    rate_fps: float
    deadline_misses: int
    """Arrivals that had not ended when the next one came."""
    deadline_miss_percent: float
    keeps_rate: bool
    """The line did not grow: half of the last third waited less than one period."""
    cautions: tuple[Caution, ...] = ()


def rate_figures(samples: Samples, rate: float) -> RateFigures:
    """What became of a fixed rate, from the samples of `fixed_rate`."""
    period_ms = 1000.0 / rate
    late = samples.latency > period_ms
    third = max(len(late) // 3, 1)
    keeps = float(np.median(samples.arrays["wait"][-third:])) < period_ms
    cautions: tuple[Caution, ...] = ()
    if not keeps:
        service = float(samples.arrays["service"].mean())
        values = {"rate_fps": rate, "service_ms": service, "period_ms": period_ms}
        cautions = (Caution("rate_not_kept", values),)
    return RateFigures(rate, int(late.sum()), 100.0 * float(late.mean()), keeps, cautions)
