"""Order statistics and what they can be trusted for: distribution-free, because latencies follow no textbook law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from export.runtime.turns import middle_ranks

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
Interval = tuple[float, float]

CONFIDENCE = 0.95


def percentile(ordered: Array, p: float) -> float:
    """trtexec's percentile: the order statistic `max(N - 1 - int((1 - p/100) * N), 0)`, no interpolation.

    Args:
        ordered: ascending samples [N].
        p: in percent.
    """
    count = len(ordered)
    # Rounded first: (1 - 0.99) * 1000 is 10.000000000000009 in binary, and int() would still be 10, but
    # (1 - 0.9) * 10 is 0.9999999999999998, which would be 0 where 1 is meant.
    index = max(count - 1 - int(round((1.0 - p / 100.0) * count, 9)), 0)
    return float(ordered[index])


def interval_ranks(count: int, p: float, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Ranks (from 1) of the order statistics that enclose a quantile, from the binomial distribution.

    The number of `count` independent samples below the quantile is Binomial(count, p/100) whatever they are
    distributed like; each side is left out with a probability of at most (1 - confidence) / 2 (Conover, Practical
    Nonparametric Statistics, 3.2).

    Returns:
        The largest lower and the smallest upper rank; None if there are too few samples for such ranks.
    """
    tail = (1 - confidence) / 2
    # The smallest k with cdf(k) >= tail has cdf(k - 1) < tail: rank k is above the quantile that rarely.
    low = _binomial_quantile(tail, count, p / 100)
    high = _binomial_quantile(1 - tail, count, p / 100) + 1
    return (low, high) if low >= 1 and high <= count else None


def _binomial_quantile(probability: float, count: int, share: float) -> int:
    """The smallest k with cdf(k) >= probability; `scipy.stats` does the same, and takes a second to import."""
    from scipy.special import bdtr, bdtrik

    found: int = math.ceil(bdtrik(probability, count, share))
    return found - 1 if found > 0 and bdtr(found - 1, count, share) >= probability else found


def quantile_interval(ordered: Array, p: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Confidence interval of the p-th percentile of ascending samples [N]; None where N is too small."""
    ranks = interval_ranks(len(ordered), p, confidence)
    return None if ranks is None else (float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1]))


def rounds_interval(medians: Sequence[float]) -> Interval:
    """Where the median of another round may be expected to lie: the interval of the rounds' median.

    Below six rounds no ranks reach 95 %; then it is the smallest and the largest of them.
    """
    ordered = np.sort(np.asarray(medians, np.float64))
    low, high = middle_ranks(len(ordered))
    return float(ordered[low - 1]), float(ordered[high - 1])


def median_interval(samples: Array, rounds: Sequence[int] = ()) -> Interval | None:
    """Interval of the median that neither trusts the samples to be independent nor the rounds to be many.

    Args:
        samples: [N] in the order in which they were taken.
        rounds: how many of them each round took; rounds lie apart in time.

    Returns:
        The hull of the samples' interval (binomial ranks) and the rounds' (`rounds_interval`): neighbouring
        samples share a disturbance, so that their own interval alone would be too narrow.
    """
    alone = quantile_interval(np.sort(samples), 50)
    if len(rounds) < 2:
        return alone
    low, high = rounds_interval(round_medians(samples, rounds))
    return (low, high) if alone is None else (min(alone[0], low), max(alone[1], high))


def round_medians(samples: Array, rounds: Sequence[int]) -> list[float]:
    """The median of each round."""
    parts = np.split(samples, np.cumsum(rounds)[:-1]) if len(rounds) else [samples]
    return [float(np.median(part)) for part in parts if len(part)]


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """How many times as large, from medians of rounds that two took in turns: what disturbs a round falls on both.

    Returns:
        `ratio` (the median over rounds), `low` and `high` (its interval, see `rounds_interval`), `n` (rounds).
    """
    count = min(len(numerator), len(denominator))
    ratios = [a / b for a, b in zip(numerator[:count], denominator[:count], strict=True)]
    low, high = rounds_interval(ratios)
    return {"ratio": float(np.median(ratios)), "low": low, "high": high, "n": count}


def slower_p(now: Sequence[float], before: Sequence[float]) -> float | None:
    """How probable medians of rounds as far above the others are if nothing changed; None below four rounds each.

    One-sided Mann-Whitney test: ranks alone count, so that no distribution is assumed.
    """
    from scipy.stats import mannwhitneyu

    if min(len(now), len(before)) < 4:
        return None
    return float(mannwhitneyu(now, before, alternative="greater").pvalue)


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which of several tests reject, so that one false alarm among all of them is as rare as `level` (Holm 1979)."""
    rejected = [False] * len(p_values)
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > level / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def far_outliers(ordered: Array) -> tuple[float, float]:
    """Tukey's far-out fence (third quartile + 3 interquartile ranges) and the percentage of samples beyond it.

    A quartile range below 1 % of the median counts as 1 %: a clock's step is no outlier.
    """
    first, median, third = (float(v) for v in np.quantile(ordered, (0.25, 0.5, 0.75)))
    fence = third + 3 * max(third - first, 0.01 * median)
    return fence, 100.0 * float((ordered > fence).mean())


def histogram(samples: Array, bins: int = 60) -> list[tuple[float, int]]:
    """(upper edge, count) of the samples up to their 99th percentile, in bins of equal ratio.

    Latencies have a long tail: bins of equal ratio show the bulk and the tail alike.

    Args:
        samples: [N], positive.
        bins: how many.
    """
    shown = samples[samples <= np.quantile(samples, 0.99)]
    counts, edges = np.histogram(shown, bins=np.geomspace(shown.min(), shown.max() * (1 + 1e-9), bins + 1))
    return [(float(edge), int(count)) for edge, count in zip(edges[1:], counts, strict=True)]
