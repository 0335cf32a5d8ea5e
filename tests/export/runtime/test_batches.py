"""Protects: every image gets its own logits, whatever batches an engine accepts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.errors import EngineError
from export.runtime.batches import check_batch, in_batches


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.sets(st.integers(1, 17), max_size=3))
def test_rows_come_back_in_order(count: int, sizes: set[int]) -> None:
    accepted = sorted(sizes)
    seen: list[int] = []

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(len(batch))
        return batch[:, :1] * 2.0

    images = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    np.testing.assert_array_equal(in_batches(images, accepted, run, free=8), images[:, :1] * 2)
    assert not accepted or set(seen) <= sizes


def test_unknown_batches_are_refused() -> None:
    check_batch(3, ())
    check_batch(4, (1, 4))
    for batch, accepted in ((3, (1, 4)), (0, ())):
        with pytest.raises(EngineError, match=f"batch {batch} is not among"):
            check_batch(batch, accepted)
