"""The loop that decides when an engine has been timed for long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from export.engines.protocol import Samples

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
    """Call `step` until there are enough samples.

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
    until = clock() + warmup_s
    while True:
        step()
        if clock() >= until:
            break
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
