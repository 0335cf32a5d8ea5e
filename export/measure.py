"""Latency statistics in trtexec's terms, and fair timing of several engines on one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from export.accuracy import accuracy, identical_rows
from export.cautions import Caution
from export.engines.protocol import Array, Samples
from export.errors import ExportError
from export.progress import Progress, no_progress
from export.runtime import turns
from export.runtime.sampling import Limits
from export.stats import (
    far_outliers,
    median_interval,
    percentile,
    quantile_interval,
    round_medians,
)

MIN_SAMPLES_P99 = 1000
"""Below this many samples no p99 is given: it would rest on fewer than ten of them."""
MAX_CV_PERCENT = 2.5
"""trtexec's threshold for calling a measurement unstable."""
MAX_DRIFT_PERCENT = 5.0
MAX_OUTLIER_PERCENT = 1.0
"""With more far outliers than this, the p99 is one of them."""
MAX_ROUNDS_PERCENT = 5.0
"""Widest interval of the rounds' median, relative to the median, that still counts as quiet."""

# A median of fewer samples says nothing of a drift.
_FEWEST_IN_A_THIRD = 10

Timer = Callable[[Limits], Samples]
"""Times a case within limits."""

__all__ = [
    "accuracy",
    "identical_rows",
    "latency_stats",
    "measure_rounds",
    "percentile",
]


Interval = tuple[float, float] | None


@dataclass(frozen=True)
class LatencyStats:
    """Statistics of latency samples; times in ms."""

    n: int
    batch: int
    """Images a query."""
    min: float
    mean: float
    median: float
    """Mean of the middle two."""
    max: float
    p90: float
    p95: float
    p99: float | None
    """None below 1,000 samples."""
    std: float
    """Of the population."""
    cv_percent: float
    """std / mean."""
    throughput_images_per_s: float
    """n * batch / wall_seconds."""
    drift_percent: float
    """Median of the last third against the first."""
    outlier_percent: float
    """Beyond Tukey's far-out fence."""
    fence_ms: float
    """That fence."""
    intervals: dict[str, Interval]
    """At `stats.CONFIDENCE`: of `median` (see `stats.median_interval`), and of `p90`, `p95`, `p99` by binomial ranks.
    None where the samples are too few."""
    round_medians: list[float]

    @property
    def cautions(self) -> list[Caution]:
        """What makes the figures less sure than they look."""
        return list(_cautions(self))


def latency_stats(
    samples_ms: Array, *, batch: int, wall_seconds: float, rounds: Sequence[int] = ()
) -> LatencyStats:
    """Statistics of latency samples.

    Args:
        samples_ms: [N] in the order in which they were taken, ms.
        batch: images a query.
        wall_seconds: host time of all N queries.
        rounds: how many of them each turn took.

    Raises:
        ExportError: no samples, or one that is not a positive number.
    """
    samples = np.asarray(samples_ms, np.float64).reshape(-1)
    if len(samples) == 0:
        raise ExportError("there are no latency samples", "measure for longer")
    if not np.isfinite(samples).all() or samples.min() < 0 or wall_seconds <= 0:
        raise ExportError("latency samples must be finite and not negative, and the wall time positive")
    ordered = np.sort(samples)
    count, mean, std = len(samples), float(samples.mean()), float(samples.std())
    enough = count >= MIN_SAMPLES_P99
    third = count // 3
    drift = 0.0
    if third:
        first, last = float(np.median(samples[:third])), float(np.median(samples[-third:]))
        drift = 100.0 * (last / first - 1.0) if first > 0 else 0.0
    fence, outliers = far_outliers(ordered)
    return LatencyStats(
        n=count,
        batch=batch,
        min=float(ordered[0]),
        mean=mean,
        median=float(np.median(ordered)),
        max=float(ordered[-1]),
        p90=percentile(ordered, 90),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99) if enough else None,
        std=std,
        cv_percent=100.0 * std / mean if mean > 0 else 0.0,
        throughput_images_per_s=count * batch / wall_seconds,
        drift_percent=drift,
        outlier_percent=outliers,
        fence_ms=fence,
        intervals={
            "median": median_interval(samples, rounds),
            "p90": quantile_interval(ordered, 90),
            "p95": quantile_interval(ordered, 95),
            "p99": quantile_interval(ordered, 99) if enough else None,
        },
        round_medians=round_medians(samples, rounds),
    )


def _cautions(stats: LatencyStats) -> Iterator[Caution]:
    if stats.n < MIN_SAMPLES_P99:
        yield Caution("few_samples", {"n": stats.n, "needed": MIN_SAMPLES_P99})
    if stats.cv_percent > MAX_CV_PERCENT:
        yield Caution("unstable", {"cv_percent": stats.cv_percent, "allowed": MAX_CV_PERCENT})
    if stats.outlier_percent > MAX_OUTLIER_PERCENT:
        known = float(stats.p99 is not None)
        values = {"percent": stats.outlier_percent, "fence_ms": stats.fence_ms, "p99": known}
        yield Caution("far_outliers", values)
    interval = stats.intervals["median"]
    if len(stats.round_medians) > 1 and interval is not None:
        width = 100 * (interval[1] - interval[0]) / stats.median if stats.median else 0.0
        if width > MAX_ROUNDS_PERCENT:
            yield Caution("rounds_disagree", {"low_ms": interval[0], "high_ms": interval[1]})
    enough_thirds = stats.n // 3 >= _FEWEST_IN_A_THIRD
    if enough_thirds and abs(stats.drift_percent) > MAX_DRIFT_PERCENT:
        yield Caution("drift", {"percent": stats.drift_percent})


@dataclass(frozen=True)
class Rounds:
    """The rounds that count, in the order in which they were taken."""

    names: list[str]
    """Of the cases."""
    kept: list[turns.Round]
    repeated: int
    """Rounds that were taken in place of disturbed ones."""
    further: int
    """Rounds that were taken of cases whose rounds disagreed."""
    turns: int
    """Turns of a case in all."""

    def samples(self) -> dict[str, Samples]:
        """Name to samples of all rounds; wall times are summed."""
        return dict(zip(self.names, turns.Rounds(self.kept).samples(), strict=True))


def measure_rounds(
    cases: Sequence[tuple[str, Timer]],
    limits: Limits,
    *,
    rounds: int = 5,
    max_load: float | None = None,
    agree: float | None = None,
    progress: Progress = no_progress,
) -> Rounds:
    """Time several cases in turns, so that whatever else the machine does falls on all alike.

    Args:
        cases: (unique name, what times it), such as `partial(engine.time, batch, boundary="engine")`.
        limits: of each case over all rounds. The warm-up is that before the first round of a case; a quarter of it
            comes before the others.
        rounds: how many turns each case gets; every other round runs in reverse order.
        max_load: as of `export.runtime.turns.in_rounds`, as the next one.
        agree: such as `MAX_ROUNDS_PERCENT / 100`: rounds that disagree no more are not warned of.
        progress: called after each turn.

    Raises:
        ExportError: repeated names, or numbers that are not positive.
        EngineError: an engine fails.
    """
    names = [case[0] for case in cases]
    if len(set(names)) != len(names):
        raise ExportError("the cases to measure have repeated names")
    if rounds < 1 or limits.min_samples < 1 or limits.max_seconds <= 0:
        raise ExportError("rounds, samples and seconds must be positive")
    found = turns.in_rounds(
        cases,
        lambda case, share: case[1](share),
        limits,
        rounds,
        lambda done, total, case, again: progress(done, total, case[0] + again),
        max_load,
        agree,
    )
    return Rounds(names, found.kept, found.repeated, found.further, found.turns)
