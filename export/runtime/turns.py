"""In which order engines take turns, how much of its time each turn gets, and which rounds count: fair timing on one
machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .load import Load, foreign_cores, is_disturbed, load_between, load_now
from .sampling import Limits, Samples

AGAIN = ", again: others were at work"
"""Behind a case's name in progress, where its round was disturbed."""
FEWEST = 6
"""Rounds below which there is no 95 % interval of what differs between them."""
FURTHER = ", further: its rounds disagree"
"""The same where rounds so far leave too wide an interval."""


@dataclass(frozen=True)
class Round:
    """One turn of the cases, and who else was at work meanwhile."""

    samples: Mapping[int, Samples]
    """By the case's index: of all cases, of some in a further round."""
    load: Load
    """As `load.load_between` has it; empty if unknown."""


@dataclass(frozen=True)
class Rounds:
    """The rounds that count, in the order in which they were taken."""

    kept: List[Round]
    repeated: int = 0
    """Rounds that were taken in place of disturbed ones."""
    further: int = 0
    """Rounds that were taken of cases whose rounds disagreed."""
    turns: int = 0
    """Turns of a case in all."""

    def samples(self) -> list[Samples]:
        """Of each case those of all rounds; wall times are summed."""
        return [joined(self.of(index)) for index in range(len(self.kept[0].samples) if self.kept else 0)]

    def of(self, case: int) -> list[Samples]:
        """Those of one case, a round each."""
        return [each.samples[case] for each in self.kept if case in each.samples]


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


@lru_cache(maxsize=None)
def middle_ranks(count: int) -> Tuple[int, int]:
    """Ranks (from 1) of the ordered values of `count` that enclose the median of what they are drawn from, at 95 %.

    From the binomial distribution, whatever theirs is (Conover, Practical Nonparametric Statistics, 3.2); the smallest
    and the largest below 6 values, which are too few.
    """
    # Of the 2**count ways to lie below or above the median, those with `low` values below, and with at most so many.
    low, ways, below = 0, 1, 1
    while 40 * below <= 2**count:  # 2.5 % on each side
        ways = ways * (count - low) // (low + 1)
        low, below = low + 1, below + ways
    return (low, count - low + 1) if low else (1, count)


def disagreement(parts: Sequence[Samples]) -> float:
    """Width of the interval in which the median of another round is expected, as a share of the median of all."""
    medians = sorted(float(np.median(part.latency)) for part in parts)
    low, high = middle_ranks(len(medians))
    middle = float(np.median(medians))
    return (medians[high - 1] - medians[low - 1]) / middle if middle > 0 else 0.0


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
    agree: Optional[float] = None,
) -> Rounds:
    """Time every case in `rounds` turns, and longer where that leaves doubt.

    Args:
        cases: anything that `measure` knows.
        measure: times one case within limits.
        limits: of each case over all turns.
        rounds: turns.
        between: called after each turn with (done, total, case, what to add to its name), outside any timed region.
        max_load: CPU cores that others may take in a round. Rounds in which they took more are taken again, at most as
            many as there are rounds, and of all the quietest count: chosen by the others' load, never by a latency.
        agree: the `disagreement` that a case's rounds may have. Those with more take further turns, at most as many as
            there are rounds and within their `max_seconds`; a disturbed one does not count. Not below 6 rounds, whose
            range further ones could only widen.
    """
    kept: List[Round] = []
    done = repeated = further = 0

    def take(turn: int, chosen: Sequence[int], why: str = "") -> Round:
        nonlocal done
        left = rounds if why else rounds - turn
        samples = {}
        load = load_now()
        for index in (chosen[at] for at in order(len(chosen), turn)):
            taken = [] if why else [each.samples[index] for each in kept]
            samples[index] = measure(cases[index], share(limits, taken, left, first=turn == 0))
            done += 1
            planned = done + len(chosen) - len(samples) + (left - 1) * len(chosen) * (not why)
            between(done, planned, cases[index], why)
        return Round(samples, load_between(load, load_now()))

    every = range(len(cases))
    for turn in range(rounds):
        kept.append(take(turn, every))
    while max_load is not None and repeated < rounds:
        worst = max(kept, key=lambda each: foreign_cores(each.load))
        if not is_disturbed(worst.load, max_load):
            break
        kept.append(take(rounds + repeated, every, AGAIN))
        del kept[max(range(len(kept)), key=lambda index: foreign_cores(kept[index].load))]
        repeated += 1
    spent = [sum(part.wall_seconds for part in Rounds(kept).of(index)) for index in every]
    while agree is not None and FEWEST <= rounds > further:
        found = Rounds(kept)
        wide = [i for i in every if spent[i] < limits.max_seconds and disagreement(found.of(i)) > agree]
        if not wide:
            break
        taken = take(rounds + repeated + further, wide, FURTHER)
        for index, part in taken.samples.items():
            spent[index] += part.wall_seconds
        if max_load is None or not is_disturbed(taken.load, max_load):
            kept.append(taken)
        further += 1
    return Rounds(kept, repeated, further, done)
