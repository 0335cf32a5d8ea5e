"""The alarm of `ship status`: as rare as it says where nothing changed, and there where something did."""

from __future__ import annotations

import numpy as np
import pytest

from export.runtime.counts import BINS, OutputCounts
from pipeline.shipping.drift import ALARM, drift

_BEST = np.random.default_rng(5).dirichlet(np.ones(21))
_SURE = np.linspace(0.01, 1, BINS) ** 4 / (np.linspace(0.01, 1, BINS) ** 4).sum()


def _window(
    chance: np.random.Generator, images: int, best: object = _BEST, sure: object = _SURE
) -> OutputCounts:
    return OutputCounts(
        tuple(chance.multinomial(images, np.asarray(sure)).tolist()),
        tuple(chance.multinomial(images, np.asarray(best)).tolist()),
    )


@pytest.mark.parametrize(("reference", "counted"), [(1000, 2000), (1000, 50_000), (300, 300)])
def test_false_alarms_are_as_rare_as_it_says(reference: int, counted: int) -> None:
    """1,000 clean windows; the bound is three standard errors above the stated rate."""
    chance = np.random.default_rng(1)
    alarms = sum(drift(_window(chance, reference), _window(chance, counted)).is_alarm for _ in range(1000))
    assert 0.2 * ALARM * 1000 < alarms < 1000 * (ALARM + 3 * (ALARM * (1 - ALARM) / 1000) ** 0.5)


def test_a_change_is_seen() -> None:
    """Less sure by one bin, as by blur; and one class that becomes twice as frequent."""
    chance = np.random.default_rng(2)
    less_sure = np.roll(_SURE, -1)
    more = _BEST.copy()
    more[int(np.argmax(more))] *= 2
    for changed in ({"sure": less_sure}, {"best": more / more.sum()}):
        found = [drift(_window(chance, 1000), _window(chance, 2000, **changed)) for _ in range(200)]
        assert sum(one.is_alarm for one in found) >= 190


def test_too_few_images_say_nothing() -> None:
    chance = np.random.default_rng(3)
    found = drift(_window(chance, 1000), _window(chance, 100))
    assert (found.confidence, found.classes, found.is_alarm, found.images) == (None, None, False, 100)
    other = OutputCounts((1000, *[0] * (BINS - 1)), (1000,))
    assert drift(_window(chance, 1000), other).classes is None
    assert not drift(other, other).is_alarm
