"""Protects: intervals have the coverage that they claim, whatever the samples look like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.stats import (
    far_outliers,
    holm,
    interval_ranks,
    median_interval,
    quantile_interval,
    ratio,
    round_medians,
    rounds_interval,
    slower_p,
)


@pytest.mark.parametrize(
    ("count", "p", "ranks"),
    [
        # Tables of distribution-free 95 % intervals of the median, such as Conover's.
        (5, 50, None),
        (6, 50, (1, 6)),
        (10, 50, (2, 9)),
        (20, 50, (6, 15)),
        (100, 50, (40, 61)),
        (1000, 50, (469, 532)),
        # Binomial(1000, 0.01): at most 3 above with 1.0 %, at most 4 with 2.9 %; at least 18 with 1.4 %, 17 with 2.7 %.
        (1000, 99, (983, 997)),
        (200, 99, None),
    ],
)
def test_ranks(count: int, p: float, ranks: tuple[int, int] | None) -> None:
    """Frozen values."""
    assert interval_ranks(count, p) == ranks


@settings(max_examples=80, deadline=None)
@given(st.integers(6, 400), st.sampled_from([10.0, 50.0, 90.0, 95.0]))
def test_each_side_is_left_out_with_at_most_half_of_the_rest(count: int, p: float) -> None:
    """The law, from the binomial distribution itself; one rank closer would break it."""
    ranks = interval_ranks(count, p)
    below = np.cumsum(
        [math.comb(count, k) * (p / 100) ** k * (1 - p / 100) ** (count - k) for k in range(count)]
    )
    if ranks is None:
        assert below[0] > 0.025 or below[count - 1] < 0.975
        return
    low, high = ranks
    assert below[low - 1] <= 0.025 + 1e-12 < below[low] + 2e-12
    assert below[high - 1] >= 0.975 - 1e-12 and (below[high - 2] < 0.975 + 1e-12)


def test_coverage_on_skewed_samples() -> None:
    """Of 400 runs of latencies with a long tail, about 95 % of the intervals hold the true quantile."""
    random = np.random.default_rng(0)
    runs = np.sort(random.lognormal(0, 1, (400, 300)), axis=1)
    for p, truth in ((50, 1.0), (90, math.exp(1.2815515655446004))):
        intervals = [quantile_interval(run, p) for run in runs]
        held = sum(found is not None and found[0] <= truth <= found[1] for found in intervals)
        assert held >= 0.92 * 400


def test_rounds_that_differ_widen_the_interval() -> None:
    """Samples of one round share its disturbance: their count must not make the interval narrow."""
    samples = np.concatenate([np.full(1000, level) for level in (1.0, 1.1, 1.0, 1.2, 1.0, 1.1)])
    rounds = [1000] * 6
    assert round_medians(samples, rounds) == [1.0, 1.1, 1.0, 1.2, 1.0, 1.1]
    assert median_interval(samples, rounds) == (1.0, 1.2)
    steady = np.ones(6000)
    assert median_interval(steady, rounds) == (1.0, 1.0)
    assert median_interval(np.ones(3)) is None


def test_one_bad_round_of_ten_is_no_evidence() -> None:
    """Ten rounds bear one outlier on either side; five bear none, and say so by their range."""
    assert rounds_interval([1.0] * 9 + [5.0]) == (1.0, 1.0)
    assert rounds_interval([1.0, 1.0, 1.0, 1.0, 5.0]) == (1.0, 5.0)


def test_a_ratio_is_taken_round_by_round() -> None:
    """A load that doubles both in some rounds leaves their ratio alone."""
    load = np.array([1, 1, 2, 2, 1, 1, 2, 1, 1, 2.0])
    found = ratio(list(3 * load), list(2 * load))
    assert found == {"ratio": 1.5, "low": 1.5, "high": 1.5, "n": 10}


def test_far_outliers() -> None:
    """Tukey's fence; a clock's step between equal samples is none."""
    ordered = np.sort(np.concatenate([np.linspace(1.0, 1.2, 98), [3.0, 4.0]]))
    fence, share = far_outliers(ordered)
    assert 1.2 < fence < 2.0 and share == pytest.approx(2.0)
    assert far_outliers(np.array([1.0] * 99 + [1.001]))[1] == 0.0


def test_holm_has_the_published_order() -> None:
    """Step-down: the first that fails ends it (Holm 1979); a single test is the plain one."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.04]) == [True] and holm([]) == []
    assert holm([0.02, 0.02, 0.04]) == [False, False, False]


def test_ranks_tell_slower_rounds_from_equal_ones() -> None:
    """Exact tail of 4 against 4: one order of 70; nothing from three rounds."""
    assert slower_p([5, 6, 7, 8], [1, 2, 3, 4]) == pytest.approx(1 / 70)
    assert slower_p([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(1.0)
    assert slower_p([5, 6, 7], [1, 2, 3]) is None
