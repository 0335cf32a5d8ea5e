"""From a histogram of an activation to the range that INT8 should represent: pure formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 8192
"""Bins of a histogram over [-limit, limit]."""
_ENTROPY_BINS = 2048
_ENTROPY_STEP = 8
# A peak is a bin with more than twice what its neighbours have, and with more than chance gives: six deviations.
_NEIGHBOURS = 9
_PEAK = 2.0
_DEVIATIONS = 6.0

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def percentile_bounds(counts: Array, limit: float, percentile: float) -> tuple[float, float]:
    """The values below and above which a share of `1 - percentile/100` of the elements lies, each side alone.

    Args:
        counts: integers [BINS] over equal bins of [-limit, limit].
        limit: the largest magnitude that occurred, positive.
        percentile: in percent, above 50.
    """
    edges = np.linspace(-limit, limit, len(counts) + 1)
    allowed = int(counts.sum()) * (1.0 - percentile / 100.0)
    from_left, from_right = np.cumsum(counts), np.cumsum(counts[::-1])
    first = int(np.searchsorted(from_left, allowed, side="right"))
    last = len(counts) - int(np.searchsorted(from_right, allowed, side="right"))
    return float(edges[first]), float(edges[max(last, first + 1)])


def entropy_threshold(counts: Array, limit: float, levels: int) -> float:
    """The magnitude at which clipping loses least information, in the sense of Kullback and Leibler.

    For each candidate threshold, `P` is the histogram of magnitudes up to it with all that lies beyond in its
    last bin, and `Q` the same histogram (without what lies beyond) merged into `levels` groups and spread
    again evenly over the bins of each group that were not empty. The threshold with the smallest
    `KL(P || Q)` is taken; of equal ones the largest.

    Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017, there with 2048 bins and 128
    levels. Four choices are ours. The first bin is emptied: a zero is exact at any threshold, and after a
    ReLU the zeros would decide alone. Other point masses are levelled (`without_point_masses`). Thresholds are tried
    every 8 bins, at bin edges. A bin that is empty in `Q` and not in `P` counts as if it held a thousandth of
    an element, where the formula is infinite.

    Args:
        counts: integers [2 * k * 2048] over equal bins of [-limit, limit], k a whole number.
        limit: the largest magnitude that occurred, positive.
        levels: positive values that INT8 has for the magnitudes: 128 for signed values, 256 for unsigned.

    Returns:
        The threshold, at most `limit`.
    """
    half = len(counts) // 2
    magnitudes = (counts[half:] + counts[:half][::-1]).astype(np.float64)
    magnitudes = magnitudes.reshape(_ENTROPY_BINS, -1).sum(axis=1)
    magnitudes[0] = 0.0
    magnitudes = without_point_masses(magnitudes)
    total = magnitudes.sum()
    if total == 0:
        return limit
    best, chosen = np.inf, _ENTROPY_BINS
    for bins in range(levels, _ENTROPY_BINS + 1, _ENTROPY_STEP):
        inside = magnitudes[:bins]
        if not inside.any():
            continue
        divergence = _divergence(inside, total - inside.sum(), levels)
        if divergence <= best:
            best, chosen = divergence, bins
    return limit * chosen / _ENTROPY_BINS


def without_point_masses(counts: Array) -> Array:
    """A histogram whose peaks of one bin or a few are levelled to what is around them.

    A constant area of the images (a background) is one value in each channel of a convolution's output. Such a peak
    is rounded by half a step like everything else, but a merged group spreads it over its bins, which counts as an
    information loss that only a narrower group avoids: the formula then clips the tensor until each peak has a
    level of its own, whatever it cuts off. Depthwise convolutions, whose channels have one input each, have most.

    Empty bins are no surroundings: of a normalised image, which has 256 values a channel, most bins are empty, and
    against them every value would be a peak.

    Args:
        counts: float64 [bins].

    Returns:
        The counts, each at most twice the median of those of the nine bins around it that are not empty, or what chance
        makes of that median (six deviations of a Poisson count). A smooth histogram is returned as it is.
    """
    bins = np.arange(len(counts))
    places = np.lib.stride_tricks.sliding_window_view(
        np.pad(bins, _NEIGHBOURS // 2, mode="reflect"), _NEIGHBOURS
    )
    # At an end a bin is its own mirror image, which is not around it.
    mirrored = (places == bins[:, None]) & (np.arange(_NEIGHBOURS) != _NEIGHBOURS // 2)
    windows = np.sort(np.where((counts[places] > 0) & ~mirrored, counts[places], np.inf), axis=1)
    filled = np.isfinite(windows).sum(axis=1)
    middle = np.take_along_axis(windows, np.maximum(0, (filled - 1) // 2)[:, None], axis=1)[:, 0]
    around = np.where(filled > 0, middle, 0.0)
    most: Array = np.maximum(_PEAK * around, around + _DEVIATIONS * np.sqrt(around + 1.0))
    levelled: Array = np.minimum(counts, most)
    return levelled


def _divergence(inside: Array, outside: float, levels: int) -> float:
    """KL(P || Q) of `entropy_threshold` for one candidate, in nats."""
    bins = len(inside)
    reference = inside.copy()
    reference[-1] += outside
    group = np.arange(bins) * levels // bins
    filled = inside > 0
    sums = np.bincount(group, weights=inside, minlength=levels)
    members = np.bincount(group, weights=filled, minlength=levels)
    candidate = np.where(filled, (sums / np.maximum(members, 1.0))[group], 0.0)
    candidate[(reference > 0) & (candidate == 0)] = 1e-3
    p, q = reference / reference.sum(), candidate / candidate.sum()
    present = p > 0
    return float((p[present] * np.log(p[present] / q[present])).sum())
