"""In which order engines take turns, and how much of its time each turn gets: fair timing on one machine."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .sampling import Limits, Samples


def share(limits: Limits, taken: Sequence[Samples], left: int, *, first: bool = False) -> Limits:
    """Limits of a case's next turn.

    Args:
        limits: of the case over all turns.
        taken: its samples so far.
        left: turns that are left, this one among them.
        first: this is its first turn; others are warmed up for a quarter of the time.
    """
    have, spent = sum(len(part.latency) for part in taken), sum(part.wall_seconds for part in taken)
    return Limits(
        limits.warmup_s if first else limits.warmup_s / 4,
        max(1, -(-(limits.min_samples - have) // left)),
        max(0.0, (limits.min_seconds - spent) / left),
        max(1e-3, (limits.max_seconds - spent) / left),
    )


def order(count: int, turn: int) -> Sequence[int]:
    """Indices of the cases in a turn: every other turn backwards, so that a disturbance falls on all alike."""
    return range(count) if turn % 2 == 0 else range(count - 1, -1, -1)


def joined(parts: Sequence[Samples]) -> Samples:
    """Several turns of one case as one, in the order in which they were taken; wall times are summed."""
    names = [name for name in parts[0].arrays if all(name in part.arrays for part in parts)]
    return Samples(
        {name: np.concatenate([part.arrays[name] for part in parts]) for name in names},
        parts[0].batch,
        parts[0].boundary,
        sum(part.wall_seconds for part in parts),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        tuple(len(part.latency) for part in parts),
        max(part.resolution_ms for part in parts),
    )


def in_turns(
    cases: Sequence[Any],
    measure: Callable[[Any, Limits], Samples],
    limits: Limits,
    rounds: int,
    between: Callable[[int, int, Any], None],
) -> list[Samples]:
    """Time every case in `rounds` turns.

    Args:
        cases: anything that `measure` knows.
        measure: times one case within limits.
        limits: of each case over all turns.
        rounds: turns.
        between: called after each turn with (done, total, case), outside any timed region.

    Returns:
        One joined result a case, in the order of `cases`.
    """
    taken: list[list[Samples]] = [[] for _ in cases]
    done = 0
    for turn in range(rounds):
        for index in order(len(cases), turn):
            mine = taken[index]
            mine.append(measure(cases[index], share(limits, mine, rounds - turn, first=turn == 0)))
            done += 1
            between(done, rounds * len(cases), cases[index])
    return [joined(parts) for parts in taken]
