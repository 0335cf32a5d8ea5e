"""How many CPU threads an engine runs fastest with: a small network loses more to handing over than it wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Generic, Mapping, Protocol, Sequence, TypeVar

import numpy as np

from .arrays import Array
from .sampling import Limits, Samples
from .turns import in_rounds

ROUNDS = 6
MARGIN = 0.02
"""More threads must win by this much: what they do not need is left to others."""
CHOOSING_S = 0.5
"""Longest sampling time of each candidate."""
ENOUGH = 600
"""So many samples of a candidate need no more than a third of that time."""


def choosing(seconds: float) -> Limits:
    """How long a candidate is sampled, at most `seconds`: a small network's queries are many long before."""
    return Limits(seconds / 10, ENOUGH, seconds / 3, max(seconds, 0.01))


class Timed(Protocol):
    """What is asked of an engine here."""

    def time(self, batch: Array, limits: Limits) -> Samples:
        """Time repeated inference of `batch`."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


E = TypeVar("E", bound=Timed)


@dataclass(frozen=True)
class Chosen(Generic[E]):
    """The engine with the number of threads that it runs fastest with.

    Attributes:
        engine: loaded; the others are closed.
        threads: its number of threads.
        medians: of each candidate in each round, ms; empty if there was nothing to choose.
    """

    engine: E
    threads: int
    medians: Mapping[int, Sequence[float]]


def fastest_threads(
    load: Callable[[int], E], counts: Sequence[int], batch: Array, seconds: float
) -> Chosen[E]:
    """Load an engine with each number of threads, let them take turns, and keep the fastest.

    Args:
        load: the engine with so many threads.
        counts: candidates.
        batch: one batch of its input.
        seconds: longest sampling time of each.
    """
    ordered = sorted(set(counts))
    engines = {count: load(count) for count in ordered}
    best = ordered[0]
    medians: dict[int, list[float]] = {}
    if len(ordered) > 1:

        def measure(engine: E, share: Limits) -> Samples:
            return engine.time(batch, share)

        candidates = [engines[count] for count in ordered]
        taken = in_rounds(candidates, measure, choosing(seconds), ROUNDS, lambda *_: None).samples()
        medians = {count: _round_medians(samples) for count, samples in zip(ordered, taken)}
        for count in ordered[1:]:
            pairs = zip(medians[best], medians[count])
            if np.median([fewer / more for fewer, more in pairs]) > 1 + MARGIN:
                best = count
    for count, engine in engines.items():
        if count != best:
            engine.close()
    return Chosen(engines[best], best, medians)


def _round_medians(samples: Samples) -> list[float]:
    parts = np.split(samples.latency, np.cumsum(samples.rounds)[:-1])
    return [float(np.median(part)) for part in parts if len(part)]
