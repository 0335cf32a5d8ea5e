"""Raw samples of an engine's latency, and the loops that decide when it has been timed for long enough."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Sequence, Tuple

import numpy as np

from .arrays import Array

_HARD_LIMIT = 10_000_000
_CALIBRATION_S = 0.5

Query = Callable[[], object]
"""One inference, ready to run: a call runs it and returns when its result is there."""
Step = Callable[[], Dict[str, float]]
"""Runs one query, returns milliseconds by name, `latency` among them; the same names every time."""


@dataclass(frozen=True)
class Limits:
    """When to stop: at `max_seconds`, or before it once there are `min_samples` and `min_seconds` have passed."""

    warmup_s: float = 0.2
    """Seconds of queries that are run first and not counted (at least one query)."""
    min_samples: int = 1000
    min_seconds: float = 0.0
    max_seconds: float = 10.0

    def window_ns(self, start: int) -> Tuple[int, int]:
        """The earliest and the latest end of what began at `start`, on the same clock."""
        return start + int(self.min_seconds * 1e9), start + int(self.max_seconds * 1e9)


@dataclass(frozen=True)
class Samples:
    """Raw timings of one engine and batch, all arrays float64 milliseconds of equal length."""

    arrays: Mapping[str, Array]
    """`latency` always; `h2d`, `compute`, `d2h`, `enqueue`, step names or `at` (seconds since the start) where they
    exist."""
    batch: int
    boundary: str
    wall_seconds: float
    """Host time from the first sample's start to the last one's end, summed over rounds."""
    notes: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    """How many samples each turn took, where several cases took turns."""
    resolution_ms: float = 0.0
    """The steps in which the clock of the samples tells time, where they are worth knowing; 0 where they are not."""
    thinned_from: int = 0
    """Queries that were run, where only some of their samples were kept; else 0."""

    @property
    def latency(self) -> Array:
        """The latency samples in ms."""
        return self.arrays["latency"]

    @property
    def queries(self) -> int:
        """Queries that were run, warm-up apart."""
        return self.thinned_from or len(self.latency)


def sample(step: Step, limits: Limits, *, batch: int, boundary: str, notes: Sequence[str] = ()) -> Samples:
    """Call `step`, which times itself, until there are enough samples.

    Args:
        step: one query.
        limits: when to stop.
        batch: images a query.
        boundary: what the latency includes.
        notes: passed on.
    """
    clock = time.perf_counter
    warm_up(step, limits.warmup_s)
    rows = []
    start = clock()
    while True:
        rows.append(step())
        passed = clock() - start
        enough = len(rows) >= limits.min_samples and passed >= limits.min_seconds
        if enough or passed >= limits.max_seconds or len(rows) >= _HARD_LIMIT:
            break
    arrays = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    return Samples(arrays, batch, boundary, passed, tuple(notes))


def sample_query(query: Query, limits: Limits, *, batch: int, boundary: str) -> Samples:
    """Time `query` on the host clock until there are enough samples; arguments as for `sample`.

    Between two clock readings is the query alone; between two queries are one comparison and one append, so that
    the throughput, too, is the engine's and not this loop's.
    """
    clock = time.perf_counter_ns
    warm_up(query, limits.warmup_s)
    wanted = limits.min_samples
    times: list[int] = []
    append = times.append
    count = 0
    start = clock()
    earliest, latest = limits.window_ns(start)
    while True:
        begin = clock()
        query()
        end = clock()
        append(end - begin)
        count += 1
        if (count >= wanted and end >= earliest) or end >= latest or count >= _HARD_LIMIT:
            break
    return Samples({"latency": np.array(times, np.float64) / 1e6}, batch, boundary, (end - start) / 1e9)


def warm_up(query: Query, seconds: float) -> None:
    """Run `query` for a time, and at least once."""
    until = time.perf_counter() + seconds
    while True:
        query()
        if time.perf_counter() >= until:
            break


def sustained(
    step: Step,
    seconds: float,
    *,
    window_s: float,
    keep: int,
    between: Callable[[float], None],
    batch: int,
    boundary: str,
    notes: Sequence[str] = (),
) -> Samples:
    """Call `step` for minutes, in windows; keeps about `keep` samples, evenly thinned, and when they were taken.

    Args:
        step: one query.
        seconds: how long.
        window_s: `between` is called after each window with the seconds since the start; the queries stand still
            meanwhile.
        keep: samples to keep at most, about; thinning by a whole number is in the notes.
        between: outside the timed region.
        batch: images a query.
        boundary: what the latency includes.
        notes: passed on.

    Returns:
        Arrays `latency` (ms) and `at` (seconds since the start).
    """
    clock = time.perf_counter
    start = clock()
    counted = 0
    while clock() - start < min(_CALIBRATION_S, seconds / 10):
        step()
        counted += 1
    every = max(1, int(counted / max(clock() - start, 1e-9) * seconds / keep))
    latency, at = array("d"), array("d")
    start = clock()
    queries, busy = 0, 0.0
    while clock() - start < seconds:
        window = clock()
        while clock() - window < window_s and clock() - start < seconds:
            value = step()["latency"]
            if queries % every == 0:
                latency.append(value)
                at.append(clock() - start)
            queries += 1
        busy += clock() - window
        between(clock() - start)
    arrays = {"latency": np.array(latency), "at": np.array(at)}
    return Samples(arrays, batch, boundary, busy, (*notes, *thinning(every)), thinned_from=queries)


def thinning(every: int) -> tuple[str, ...]:
    """The note on samples of which one in `every` was kept."""
    return (f"one sample in {every} was kept",) if every > 1 else ()


def host_timed(query: Query) -> Step:
    """A step that times `query` on the host clock."""
    clock = time.perf_counter_ns

    def step() -> dict[str, float]:
        begin = clock()
        query()
        return {"latency": (clock() - begin) / 1e6}

    return step
