"""How many CPU threads an engine runs fastest with: a small network loses more to handing over than it wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import numpy.typing as npt

    from export.engines.protocol import Engine

ROUNDS = 6
MARGIN = 0.02
"""More threads must win by this much: what they do not need is left to others."""


class Tried(TypedDict):
    """A number of threads that was not chosen: how many times as long it takes as the chosen one."""

    threads: int
    times: Mapping[str, float]
    """As `export.stats.ratio` has it."""


def fastest_threads(
    load: Callable[[int], Engine], counts: Sequence[int], images: npt.NDArray[Any], seconds: float
) -> tuple[Engine, list[Tried]]:
    """Load an engine with each number of threads, let them take turns, and keep the fastest.

    Args:
        load: the engine with so many threads.
        counts: candidates.
        images: one batch.
        seconds: sampling time of each.

    Returns:
        The engine (the others are closed), and what each other number of threads came to; empty if there was nothing to
        choose.
    """
    from export.measure import measure_interleaved
    from export.stats import ratio, round_medians

    ordered = sorted(set(counts))
    engines = {count: load(count) for count in ordered}
    best = ordered[0]
    tried: list[Tried] = []
    if len(ordered) > 1:
        samples = measure_interleaved(
            [(str(count), partial(engine.time, images)) for count, engine in engines.items()],
            rounds=ROUNDS, warmup_s=seconds / 5, min_samples=ROUNDS, min_seconds=seconds,
            max_seconds=max(2 * seconds, 0.01),
        )  # fmt: skip
        medians = {n: round_medians(samples[str(n)].latency, samples[str(n)].rounds) for n in ordered}
        for count in ordered[1:]:
            if ratio(medians[best], medians[count])["ratio"] > 1 + MARGIN:
                best = count
        tried = [{"threads": n, "times": ratio(medians[n], medians[best])} for n in ordered if n != best]
    for count, engine in engines.items():
        if count != best:
            engine.close()
    return engines[best], tried
