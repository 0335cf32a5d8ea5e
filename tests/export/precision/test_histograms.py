"""Protects: INT8 ranges follow from histograms by the published formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from export.precision.histograms import BINS, entropy_threshold, percentile_bounds, without_point_masses


def histogram(values: Any) -> tuple[Any, float]:
    limit = float(np.abs(values).max())
    return np.histogram(values, BINS, (-limit, limit))[0], limit


def migacz(counts: Any, limit: float, levels: int) -> float:
    """The published pseudo-code, loop by loop, with SciPy's divergence."""
    from scipy.stats import entropy as kl_divergence  # takes half a second to import

    folded = [int(counts[4096 + i]) + int(counts[4095 - i]) for i in range(4096)]
    bins = [folded[2 * i] + folded[2 * i + 1] for i in range(2048)]
    bins[0] = 0
    best, threshold = float("inf"), 2048
    for i in range(levels, 2049, 8):
        reference = [float(b) for b in bins[:i]]
        reference[i - 1] += sum(bins[i:])
        candidate = [0.0] * i
        for level in range(levels):
            members = [j for j in range(i) if j * levels // i == level]
            filled = [j for j in members if bins[j] > 0]
            for j in filled:
                candidate[j] = sum(bins[k] for k in members) / len(filled)
        if not any(candidate):
            continue
        candidate = [1e-3 if p > 0 and q == 0 else q for p, q in zip(reference, candidate, strict=True)]
        found = float(kl_divergence(reference, candidate))
        if found <= best + 1e-15:
            best, threshold = found, i
    return limit * threshold / 2048


def heavy_tailed(seed: int) -> Any:
    return np.random.default_rng(seed).standard_t(3, 20_000)


@pytest.mark.parametrize("levels", [128, 256])
def test_entropy_is_the_published_formula(levels: int) -> None:
    """Our vectorised search finds what the pseudo-code finds."""
    counts, limit = histogram(np.maximum(heavy_tailed(0), 0))
    assert entropy_threshold(counts, limit, levels) == pytest.approx(migacz(counts, limit, levels))


FROZEN = {
    ("laplace", 128): 8.56551832553508,
    ("laplace", 256): 8.667085736509804,
    ("student", 128): 13.20606373296937,
    ("relu", 256): 13.033378354742597,
}


@pytest.mark.parametrize(("kind", "levels"), list(FROZEN))
def test_frozen_thresholds(kind: str, levels: int) -> None:
    """What the pseudo-code above gave for three distributions of 20,000 samples."""
    random = np.random.default_rng(7)
    values = {
        "laplace": random.laplace(size=20_000),
        "student": random.standard_t(3, 20_000),
        "relu": np.maximum(random.standard_t(3, 20_000), 0),
    }[kind]
    assert entropy_threshold(*histogram(values), levels) == pytest.approx(FROZEN[kind, levels], rel=1e-9)


def test_zeros_do_not_decide() -> None:
    """After a ReLU most values are exact zeros; they cost nothing at any threshold."""
    values = np.maximum(heavy_tailed(1), 0)
    more = np.concatenate([values, np.zeros(200_000)])
    assert entropy_threshold(*histogram(values), 128) == entropy_threshold(*histogram(more), 128)


def test_a_lone_outlier_is_clipped_and_a_flat_histogram_is_not() -> None:
    """The two cases that the method exists to tell apart."""
    random = np.random.default_rng(0)
    flat = random.uniform(-1, 1, 200_000)
    assert entropy_threshold(*histogram(flat), 128) > 0.95
    outlier = np.append(random.standard_normal(50_000), 60.0)
    assert entropy_threshold(*histogram(outlier), 128) < 10


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 100))
def test_thresholds_scale_with_the_values(scale: float, seed: int) -> None:
    """A threshold is a property of the shape: it lies in (0, limit] and follows the unit."""
    counts, limit = histogram(heavy_tailed(seed))
    one = entropy_threshold(counts, limit, 128)
    assert 0 < one <= limit
    assert entropy_threshold(counts, limit * scale, 128) == pytest.approx(one * scale)


def with_backgrounds(seed: int) -> tuple[Any, Any]:
    """Channels of a depthwise convolution on images with a constant background: smooth, and one value in each."""
    random = np.random.default_rng(seed)
    smooth = np.concatenate([random.normal(0, width, 20_000) for width in random.uniform(0.2, 2.0, 24)])
    return smooth, np.repeat(random.normal(0, 0.7, 24), 8_000)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_backgrounds_do_not_decide(seed: int) -> None:
    """A trained MobileNetV2 lost 63 points: peaks made the formula cut 10 % off its first depthwise convolution."""
    smooth, peaks = with_backgrounds(seed)
    alone = entropy_threshold(*histogram(smooth), 128)
    together = entropy_threshold(*histogram(np.concatenate([smooth, peaks])), 128)
    assert (np.abs(smooth) > together).mean() < 0.002
    assert together == pytest.approx(alone, rel=0.35)


@pytest.mark.parametrize("levels", [128, 256])
@pytest.mark.parametrize(
    ("mean", "deviation"),
    [
        ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    ],
)
def test_an_image_is_not_clipped(mean: tuple[float, ...], deviation: tuple[float, ...], levels: int) -> None:
    """Normalised pixels are 256 values a channel among empty bins. Taken for peaks, they were clipped at 8 % of their
    range, and two of three trained students lost all that they knew."""
    random = np.random.default_rng(0)
    pixels = np.where(random.random((100_000, 1)) < 0.6, 230, random.integers(0, 256, (100_000, 1)))
    counts, limit = histogram(((pixels / 255 - mean) / deviation).ravel())
    assert entropy_threshold(counts, limit, levels) > 0.98 * limit


@given(height=st.floats(0, 1e6), width=st.floats(40, 1000), peak=st.integers(0, 2047))
@example(height=1.0, width=40.0, peak=0)  # nothing but the peak's own bin was filled
@example(height=1.0, width=40.0, peak=1)  # one bin around it, and its own mirror image
def test_only_peaks_are_levelled(height: float, width: float, peak: int) -> None:
    """A smooth histogram stays as it is, zero included; a peak in it comes down to its surroundings. Where all around
    is empty there are none, and nothing is lost: the peak is all that its group has."""
    smooth = np.floor(height * np.exp(-np.arange(2048) / width))
    np.testing.assert_array_equal(without_point_masses(smooth), smooth)
    spiked = smooth.copy()
    spiked[peak] += 1e7
    levelled = without_point_masses(spiked)
    if smooth[max(0, peak - 4) : peak].any() or smooth[peak + 1 : peak + 5].any():
        assert levelled[peak] <= 2.2 * smooth[peak] + 6 * np.sqrt(smooth[peak] + 1) + 6
    else:
        assert levelled[peak] == spiked[peak]
    assert (np.delete(levelled, peak) == np.delete(smooth, peak)).all()


def test_empty_histograms() -> None:
    """A tensor with nothing but values near zero keeps its limit."""
    counts = np.zeros(BINS, np.int64)
    counts[BINS // 2] = 100
    assert entropy_threshold(counts, 2.0, 128) == 2.0


def test_percentile_of_known_values() -> None:
    """1000 values from 0.001 to 1: 99 % leaves ten on the right, none is negative."""
    low, high = percentile_bounds(*histogram(np.arange(1, 1001) / 1000), 99.0)
    assert high == pytest.approx(0.99, abs=2 / 4096)
    assert 0 <= low < 0.012
