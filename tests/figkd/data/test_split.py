"""The stratified split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figkd.data.split import stratified_split
from figkd.errors import DataError


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
)
def test_parts_are_disjoint_complete_and_stratified(labels: list[int], fraction: float, seed: int) -> None:
    """Protects: nothing is lost or in both parts, and every class gives its share."""
    kept, held = stratified_split(labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    for name in set(labels):
        total = labels.count(name)
        taken = sum(labels[i] == name for i in held)
        expected = 0 if fraction == 0 or total < 2 else min(max(1, round(fraction * total)), total - 1)
        assert taken == expected


def test_seeded() -> None:
    """Protects reproducibility, and that a class's choice does not hang on the others."""
    labels = np.repeat(np.arange(3), 50)
    first, again, other = (stratified_split(labels, 0.2, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(stratified_split(labels[:100], 0.2, 1)[1], first[first < 100])


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_wrong_fractions(fraction: float) -> None:
    """Protects against an empty training split."""
    with pytest.raises(DataError, match="fraction"):
        stratified_split([0, 1], fraction, 0)
