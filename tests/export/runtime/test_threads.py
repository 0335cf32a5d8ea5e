"""The number of threads is the faster one by measurement, and the smaller one where that makes no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.runtime.sampling import Limits, Samples
from export.runtime.threads import ROUNDS, fastest_threads
from pipeline.places.threads import tried


class Fake:
    def __init__(self, ms: float) -> None:
        self.ms, self.closed = ms, False

    def time(self, batch: Any, limits: Limits) -> Samples:
        return Samples({"latency": np.full(limits.min_samples, self.ms)}, 1, "engine", 0.01)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("one", "two", "best"),
    [(0.002, 0.004, 1), (0.004, 0.002, 2), (0.00303, 0.003, 1)],
    ids=["small", "large", "tie"],
)
def test_the_faster_one(one: float, two: float, best: int) -> None:
    """The others are closed, and the report is told how many times as long they take, by rounds."""
    made = {1: Fake(one), 2: Fake(two)}
    found = fastest_threads(made.__getitem__, (2, 1), np.zeros((1, 1)), 0.05)
    assert found.engine is made[best] and found.threads == best
    assert [count for count, fake in made.items() if fake.closed] == [3 - best]
    assert {count: len(medians) for count, medians in found.medians.items()} == {1: ROUNDS, 2: ROUNDS}
    (other,) = tried(found.threads, found.medians)
    assert other["threads"] == 3 - best
    assert other["times"]["n"] == ROUNDS and other["times"]["ratio"] > 0.98


def test_one_core_has_nothing_to_choose() -> None:
    """Nothing is timed."""
    fake: Any = Fake(60.0)
    found = fastest_threads(lambda _: fake, (1, 1), np.zeros((1, 1)), 0.05)
    assert (found.engine, found.threads, found.medians) == (fake, 1, {})
    assert tried(found.threads, found.medians) == [] and not fake.closed
