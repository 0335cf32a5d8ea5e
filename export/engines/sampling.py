"""The loops that decide when an engine has been timed for long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from export.engines.protocol import Query, Samples

_HARD_LIMIT = 10_000_000


def sample(
    step: Callable[[], dict[str, float]],
    *,
    batch: int,
    boundary: str,
    warmup_s: float,
    min_samples: int,
    min_seconds: float,
    max_seconds: float,
    notes: tuple[str, ...] = (),
) -> Samples:
    """Call `step`, which times itself, until there are enough samples.

    Args:
        step: runs one query, returns milliseconds by name, `latency` among them; the same names every time.
        batch: images a query.
        boundary: what the latency includes.
        warmup_s: seconds of queries that are run first and not counted (at least one query).
        min_samples: wanted number of samples.
        min_seconds: shortest time of sampling.
        max_seconds: longest time of sampling; wins over both.
        notes: passed on.
    """
    clock = time.perf_counter
    warm_up(step, warmup_s)
    rows: list[dict[str, float]] = []
    start = clock()
    while True:
        rows.append(step())
        passed = clock() - start
        if (
            (len(rows) >= min_samples and passed >= min_seconds)
            or passed >= max_seconds
            or len(rows) >= _HARD_LIMIT
        ):
            break
    arrays: dict[str, np.ndarray[Any, Any]] = {
        name: np.array([row[name] for row in rows], np.float64) for name in rows[0]
    }
    return Samples(arrays, batch, boundary, passed, notes)


def sample_query(
    query: Query,
    *,
    batch: int,
    boundary: str,
    warmup_s: float,
    min_samples: int,
    min_seconds: float,
    max_seconds: float,
) -> Samples:
    """Time `query` on the host clock until there are enough samples; arguments as for `sample`.

    Between two clock readings is the query alone; between two queries are one comparison and one append, so that
    the throughput, too, is the engine's and not this loop's.
    """
    clock = time.perf_counter_ns
    warm_up(query, warmup_s)
    times: list[int] = []
    append = times.append
    count = 0
    start = clock()
    earliest, latest = start + int(min_seconds * 1e9), start + int(max_seconds * 1e9)
    while True:
        begin = clock()
        query()
        end = clock()
        append(end - begin)
        count += 1
        if (count >= min_samples and end >= earliest) or end >= latest or count >= _HARD_LIMIT:
            break
    return Samples({"latency": np.array(times, np.float64) / 1e6}, batch, boundary, (end - start) / 1e9)


def warm_up(query: Callable[[], object], seconds: float) -> None:
    """Run `query` for a time, and at least once."""
    until = time.perf_counter() + seconds
    while True:
        query()
        if time.perf_counter() >= until:
            break
