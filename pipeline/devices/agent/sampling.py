"""How long an engine is timed, and in which order engines take turns: the device's half of measuring.

Samples are kept raw, as C doubles; every statistic is computed by the host.
"""

from __future__ import annotations

import time
from array import array
from typing import Any, Callable, Dict, Sequence

HARD_LIMIT = 10_000_000
# Warming up: the clock is read after each window of work, and is steady once so many readings in a row agree. Two
# alike may be the idle clock that has not begun to rise.
WINDOW_S, LONGEST_S, READINGS, APART = 0.25, 5.0, 3, 0.02
Step = Callable[[], Dict[str, float]]  # a runtime value, so not `dict` on 3.8


class Timed:
    """Raw milliseconds by part (`latency` among them), the time they took, and remarks.

    `resolution_ms` is the step in which the clock tells time, where that is worth knowing.
    """

    def __init__(
        self,
        arrays: dict[str, array[float]],
        wall_seconds: float,
        notes: Sequence[str] = (),
        queries: int | None = None,
        rounds: Sequence[int] = (),
        resolution_ms: float = 0.0,
    ) -> None:
        self.rounds = list(rounds)
        self.resolution_ms = resolution_ms
        self.arrays = arrays
        self.queries = len(arrays["latency"]) if queries is None else queries
        self.wall_seconds = wall_seconds
        self.notes = tuple(notes)

    def __len__(self) -> int:
        return len(self.arrays["latency"])


class Limits:
    """When to stop: the first of `max_seconds`, or both `min_samples` and `min_seconds`."""

    def __init__(self, warmup_s: float, min_samples: int, min_seconds: float, max_seconds: float) -> None:
        self.warmup_s = warmup_s
        self.min_samples = min_samples
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds


def steady(readings: Sequence[float]) -> bool:
    """Whether a clock has settled: its last readings are within 2 % of each other."""
    last = readings[-READINGS:]
    return len(last) == READINGS and max(last) - min(last) <= APART * max(last)


class WarmUp:
    """How an engine was warmed up: the clock (MHz) after each window, and whether it became steady."""

    def __init__(self, seconds: float, readings: Sequence[float]) -> None:
        self.seconds = seconds
        self.readings = list(readings)
        self.steady = steady(readings)

    def words(self) -> dict[str, Any]:
        """As JSON values."""
        return {"seconds": self.seconds, "mhz": self.readings, "steady": self.steady}


def warm_until_steady(
    query: Callable[[], object],
    read_mhz: Callable[[], float | None],
    clock: Callable[[], float] = time.perf_counter,
) -> WarmUp | None:
    """Run `query` until the GPU's clock is steady, for 5 s at most.

    Args:
        query: one inference.
        read_mhz: the clock now; None where it cannot be read.
        clock: seconds.

    Returns:
        None where the clock cannot be read: then nothing was run, and the usual warm-up must do.
    """
    if read_mhz() is None:
        return None
    readings: list[float] = []
    start = clock()
    while not steady(readings) and clock() - start < LONGEST_S:
        window = clock()
        while clock() - window < WINDOW_S:
            query()
        now = read_mhz()
        if now is None:
            break
        readings.append(now)
    return WarmUp(clock() - start, readings)


def sample(step: Step, limits: Limits, notes: Sequence[str] = ()) -> Timed:
    """Call `step` (one query, milliseconds by part) until there are enough samples."""
    clock = time.perf_counter
    until = clock() + limits.warmup_s
    while True:
        names = sorted(step())
        if clock() >= until:
            break
    rows: list[dict[str, float]] = []
    start = clock()
    while True:
        rows.append(step())
        passed = clock() - start
        enough = len(rows) >= limits.min_samples and passed >= limits.min_seconds
        if enough or passed >= limits.max_seconds or len(rows) >= HARD_LIMIT:
            break
    return Timed({name: array("d", (row[name] for row in rows)) for name in names}, passed, notes)


def sample_query(query: Callable[[], object], limits: Limits) -> Timed:
    """Time `query` on the host clock; between two is next to nothing, so that throughput is the engine's."""
    clock = time.perf_counter
    until = clock() + limits.warmup_s
    while True:
        query()
        if clock() >= until:
            break
    times: list[float] = []
    append = times.append
    count = 0
    start = clock()
    earliest, latest = start + limits.min_seconds, start + limits.max_seconds
    while True:
        begin = clock()
        query()
        end = clock()
        append(end - begin)
        count += 1
        if (count >= limits.min_samples and end >= earliest) or end >= latest or count >= HARD_LIMIT:
            break
    return Timed({"latency": array("d", (1e3 * value for value in times))}, end - start)


def join(parts: Sequence[Timed]) -> Timed:
    """Several turns of one case as one, in the order in which they were taken."""
    names = [name for name in parts[0].arrays if all(name in part.arrays for part in parts)]
    arrays = {name: array("d") for name in names}
    for part in parts:
        for name in names:
            arrays[name].extend(part.arrays[name])
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    seconds = sum(part.wall_seconds for part in parts)
    return Timed(
        arrays,
        seconds,
        tuple(notes),
        rounds=[len(part) for part in parts],
        resolution_ms=max(part.resolution_ms for part in parts),
    )


def in_turns(
    cases: Sequence[Any],
    measure: Callable[[Any, Limits], Timed],
    limits: Limits,
    rounds: int,
    between: Callable[[int, int, Any], None],
) -> list[Timed]:
    """Time every case in `rounds` turns, every other one in reverse order, so that a disturbance hits all alike.

    Args:
        cases: anything that `measure` knows.
        measure: times one case within limits.
        limits: of each case over all turns.
        rounds: turns.
        between: called after each turn with (done, total, case), outside any timed region.

    Returns:
        One joined result a case, in the order of `cases`.
    """
    collected: list[list[Timed]] = [[] for _ in cases]
    for turn in range(rounds):
        left = rounds - turn
        order = list(range(len(cases)))
        for position, index in enumerate(order if turn % 2 == 0 else order[::-1]):
            done = collected[index]
            have, spent = sum(len(part) for part in done), sum(part.wall_seconds for part in done)
            share = Limits(
                limits.warmup_s if turn == 0 else limits.warmup_s / 4,
                max(1, -(-(limits.min_samples - have) // left)),
                max(0.0, (limits.min_seconds - spent) / left),
                max(1e-3, (limits.max_seconds - spent) / left),
            )
            done.append(measure(cases[index], share))
            between(turn * len(cases) + position + 1, rounds * len(cases), cases[index])
    return [join(parts) for parts in collected]


def sustained(
    step: Step, seconds: float, window_s: float, keep: int, between: Callable[[float], None]
) -> Timed:
    """Call `step` for minutes, in windows; keeps about `keep` samples, evenly thinned, and when they were taken.

    Args:
        step: one query.
        seconds: how long.
        window_s: `between` is called after each window with the seconds since the start; the queries stand still
            meanwhile.
        keep: samples to keep at most, about; thinning by a whole number is said in the notes.
        between: outside the timed region.

    Returns:
        Arrays `latency` (ms) and `at` (seconds since the start).
    """
    clock = time.perf_counter
    start = clock()
    counted = 0
    while clock() - start < min(0.5, seconds / 10):
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
    notes = [f"one sample in {every} was kept"] if every > 1 else []
    return Timed({"latency": latency, "at": at}, busy, notes, queries)
