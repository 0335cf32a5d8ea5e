"""Shares of test images: how well they are known, how two of them differ, and what guessing would give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from export.stats import Interval

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

Z = 1.959964
"""Two-sided 95 % of the normal distribution."""


def wilson(hits: float, n: int) -> Interval:
    """95 % score interval of a share (Wilson 1927), 0 to 1; everything where there are no samples.

    Args:
        hits: successes.
        n: trials.
    """
    if n <= 0:
        return 0.0, 1.0
    share, square = hits / n, Z * Z / n
    centre = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(first: Array, second: Array) -> tuple[float, Interval]:
    """How much more often the first is right than the second, on the same images.

    Args:
        first: bool [N], whether each image is answered right.
        second: bool [N], the same of the other.

    Returns:
        The difference of the shares, -1 to 1, and its 95 % interval: Wald's with one pseudo-observation in each
        discordant cell (Bonett and Price 2012). What both get right or wrong says nothing about the difference.
    """
    n = len(first)
    gained, lost = int((first & ~second).sum()), int((~first & second).sum())
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((more + less - (more - less) ** 2) / (n + 2))
    middle = more - less
    return (gained - lost) / n, (max(-1.0, middle - half), min(1.0, middle + half))


def above_chance(hits: Array, n: Array, chance: float) -> Array:
    """One-sided exact binomial test: how probable so many hits or more are by guessing; float [C].

    Args:
        hits: int [C], images of each class that are answered right.
        n: int [C], images of each class.
        chance: share that a guess gets right.
    """
    from scipy.special import bdtrc

    return np.asarray(bdtrc(hits - 1, n, chance), np.float64)
