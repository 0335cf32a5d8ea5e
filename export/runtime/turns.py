"""In which order engines take turns, how much of its time each turn gets, and which rounds count: fair timing on one
machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from .load import Load, foreign_cores, is_disturbed, load_between, load_now
from .sampling import Limits, Samples

AGAIN = ", again: others were at work"
"""Behind a case's name in progress, where its round was disturbed."""


@dataclass(frozen=True)
class Round:
    """One turn of every case, and who else was at work meanwhile."""

    samples: Sequence[Samples]
    """In the order of the cases."""
    load: Load
    """As `load.load_between` has it; empty if unknown."""


@dataclass(frozen=True)
class Rounds:
    """The rounds that count, in the order in which they were taken."""

    kept: List[Round]
    repeated: int = 0
    """Rounds that were taken beyond those asked for."""

    def samples(self) -> list[Samples]:
        """Of each case those of all rounds; wall times are summed."""
        return [joined(parts) for parts in zip(*(each.samples for each in self.kept))]


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


def in_rounds(
    cases: Sequence[Any],
    measure: Callable[[Any, Limits], Samples],
    limits: Limits,
    rounds: int,
    between: Callable[[int, int, Any, str], None],
    max_load: Optional[float] = None,
) -> Rounds:
    """Time every case in `rounds` turns.

    Args:
        cases: anything that `measure` knows.
        measure: times one case within limits.
        limits: of each case over all turns.
        rounds: turns.
        between: called after each turn with (done, total, case, what to add to its name), outside any timed region.
        max_load: CPU cores that others may take in a round. Rounds in which they took more are taken again, at most as
            many as there are rounds, and of all the quietest count: chosen by the others' load, never by a latency.
    """
    kept: List[Round] = []
    done = repeated = 0

    def take(turn: int) -> Round:
        nonlocal done
        again = turn >= rounds
        left = rounds if again else rounds - turn
        samples = {}
        load = load_now()
        for index in order(len(cases), turn):
            taken = [] if again else [each.samples[index] for each in kept]
            samples[index] = measure(cases[index], share(limits, taken, left, first=turn == 0))
            done += 1
            between(done, max(rounds, turn + 1) * len(cases), cases[index], AGAIN if again else "")
        return Round([samples[index] for index in range(len(cases))], load_between(load, load_now()))

    for turn in range(rounds):
        kept.append(take(turn))
    while max_load is not None and repeated < rounds:
        worst = max(kept, key=lambda each: foreign_cores(each.load))
        if not is_disturbed(worst.load, max_load):
            break
        kept.append(take(rounds + repeated))
        del kept[max(range(len(kept)), key=lambda index: foreign_cores(kept[index].load))]
        repeated += 1
    return Rounds(kept, repeated)
