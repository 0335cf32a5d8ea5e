"""Intervals of shares and of their differences, and the test against guessing: published and exact values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.proportions import above_chance, paired_difference, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(hits: int, n: int, low: float, high: float) -> None:
    """The published examples; without samples nothing is known."""
    assert wilson(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_holds_the_share_and_stays_a_share(n: int, share: float) -> None:
    """Also at 0 and 1, where Wald's interval has no width."""
    hits = round(share * n)
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12 and hits / n - 1e-12 <= high <= 1 and high > low


def _pairs(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = [True] * (both + gained) + [False] * (lost + neither)
    second = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return np.array(first), np.array(second)


def test_paired_difference_has_known_values() -> None:
    """By hand from Bonett and Price's formula; what both do alike does not widen it."""
    difference, (low, high) = paired_difference(*_pairs(20, 12, 2, 16))
    more, less = 13 / 52, 3 / 52
    half = 1.959964 * math.sqrt((more + less - (more - less) ** 2) / 52)
    assert difference == pytest.approx(0.2)
    assert (low, high) == (pytest.approx(more - less - half), pytest.approx(more - less + half))
    assert (low, high) == (pytest.approx(0.05089, abs=1e-5), pytest.approx(0.33372, abs=1e-5))
    narrow = paired_difference(*_pairs(960, 12, 2, 26))[1]
    assert narrow[1] - narrow[0] < 0.02


@given(st.tuples(*[st.integers(0, 50)] * 4).filter(any))
def test_paired_difference_is_antisymmetric(cells: tuple[int, int, int, int]) -> None:
    """Who is named first decides the sign and nothing else."""
    first, second = _pairs(*cells)
    there, (low, high) = paired_difference(first, second)
    back, (low_, high_) = paired_difference(second, first)
    assert there == pytest.approx(-back) and (low, high) == (pytest.approx(-high_), pytest.approx(-low_))
    assert low <= high and low >= -1 and high <= 1


def test_above_chance_is_the_exact_tail() -> None:
    """Small cases that can be counted on paper."""
    found = above_chance(np.array([0, 4, 3, 1]), np.array([5, 4, 4, 1]), 0.5)
    assert found == pytest.approx([1.0, 1 / 16, 5 / 16, 0.5])
