"""How many CPU threads an engine runs fastest with: a small network loses more to handing over than it wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.report import words
from pipeline.results.result import Ratio

if TYPE_CHECKING:
    import numpy.typing as npt

    from export.engines.protocol import Engine

ROUNDS = 6
MARGIN = 0.02
"""More threads must win by this much: what they do not need is left to others."""


def fastest_threads(
    load: Callable[[int], Engine], counts: Sequence[int], images: npt.NDArray[Any], seconds: float
) -> tuple[Engine, str]:
    """Load an engine with each number of threads, let them take turns, and keep the fastest.

    Args:
        load: the engine with so many threads.
        counts: candidates.
        images: one batch.
        seconds: sampling time of each.

    Returns:
        The engine (the others are closed), and the choice in words; empty if there was nothing to choose.
    """
    from export.measure import measure_interleaved
    from export.stats import ratio, round_medians

    ordered = sorted(set(counts))
    engines = {count: load(count) for count in ordered}
    best, why = ordered[0], ""
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
        said = [
            f"{n} take{'s' if n == 1 else ''} {words.ratio(Ratio.model_validate(ratio(medians[n], medians[best])))}"
            for n in ordered
            if n != best
        ]
        why = f"{best} thread{'s'[: best > 1]}: {', '.join(said)}"
    for count, engine in engines.items():
        if count != best:
            engine.close()
    return engines[best], why
