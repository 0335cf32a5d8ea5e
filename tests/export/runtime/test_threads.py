"""The number of threads is the faster one by measurement, and the smaller one where that makes no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.runtime.sampling import Limits, Samples
from export.runtime.threads import ENOUGH, ROUNDS, fastest_threads
from pipeline.places.threads import tried


class Fake:
    def __init__(self, ms: float) -> None:
        self.ms, self.closed = ms, False
        self.turns: list[Limits] = []

    def time(self, batch: Any, limits: Limits) -> Samples:
        self.turns.append(limits)
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


def test_a_small_network_is_timed_for_a_third_of_the_seconds() -> None:
    """Its hundreds of queries have passed by then; one whose queries are slow takes all of them, and no more."""
    made = {1: Fake(0.002), 2: Fake(0.004)}
    fastest_threads(made.__getitem__, (1, 2), np.zeros((1, 1)), 0.6)
    for fake in made.values():
        first = fake.turns[0]
        assert first.min_samples * ROUNDS == ENOUGH
        assert first.min_seconds * ROUNDS == pytest.approx(0.2)
        assert first.max_seconds * ROUNDS == pytest.approx(0.6)
