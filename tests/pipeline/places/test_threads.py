"""The number of threads is the faster one by measurement, and the smaller one where that makes no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.engines.protocol import Samples
from pipeline.places.threads import fastest_threads


class Fake:
    def __init__(self, seconds: float) -> None:
        self.seconds, self.closed = seconds, False

    def time(self, batch: Any, **limits: Any) -> Samples:
        return Samples({"latency": np.full(limits["min_samples"], self.seconds)}, 1, "engine", 0.01)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("one", "two", "best"),
    [(0.002, 0.004, 1), (0.004, 0.002, 2), (0.00303, 0.003, 1)],
    ids=["small", "large", "tie"],
)
def test_the_faster_one(one: float, two: float, best: int) -> None:
    """The others are closed, and it is told how many times as long they take."""
    made = {1: Fake(one), 2: Fake(two)}
    load: Any = made.__getitem__
    engine, tried = fastest_threads(load, (1, 2), np.zeros((1, 1)), 0.05)
    assert engine is made[best]
    assert [count for count, fake in made.items() if fake.closed] == [3 - best]
    assert [each["threads"] for each in tried] == [3 - best]
    assert tried[0]["times"]["n"] == 6 and tried[0]["times"]["ratio"] > 0.98


def test_one_core_has_nothing_to_choose() -> None:
    """Nothing is timed."""
    fake: Any = Fake(60.0)
    assert fastest_threads(lambda _: fake, (1, 1), np.zeros((1, 1)), 0.05) == (fake, [])
