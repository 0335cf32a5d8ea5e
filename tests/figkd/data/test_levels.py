"""The range of images of more than 8 bits: by the data set, in customary steps, without loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figkd.data.levels import UNSEEN, Levels, as_json, from_json, range_of, rule_of, scaled


@pytest.mark.parametrize(
    ("kind", "ranges", "rule"),
    [
        ("integer", [(0, 255)], (0, 255)),
        ("integer", [(0, 256)], (0, 1023)),
        ("integer", [(0, 900), (3, 4000)], (0, 4095)),
        ("integer", [(0, 16000)], (0, 16383)),
        ("integer", [(0, 30000)], (0, 65535)),
        ("integer", [(32896, 32896)], (0, 65535)),
        ("integer", [(-1024, 3071)], (-1100, 3100)),
        ("integer", [(0, 100_000)], (0, 100_000)),
        ("integer", [(29_315, 29_798)], (29_310, 29_800)),
        ("integer", [(0, 5)], (0, 5)),
        ("float", [(0.0, 1.0)], (0, 1)),
        ("float", [(0.1, 0.7)], (0, 1)),
        ("float", [(-1.0, 0.98)], (-1, 1)),
        ("float", [(0.0, 254.0)], (0, 255)),
        ("float", [(0.4, 998.7)], (0, 1000)),
        ("float", [(280.31, 309.7)], (280, 310)),
        ("float", [(0.0011, 0.0098)], (0.0011, 0.0098)),
        ("float", [(7e8, 7e8)], (7e8, 1.4e9)),
        ("integer", [], (0, 65535)),
    ],
    ids=str,
)
def test_customary_ranges(kind: Any, ranges: list[tuple[float, float]], rule: tuple[float, float]) -> None:
    """Protects what cameras, clinics and programs write: bits in use, fractions, degrees, Hounsfield units."""
    found = rule_of(kind, ranges)
    assert (found.low, found.high) == pytest.approx(rule, rel=1e-9)


def test_one_odd_image_does_not_decide() -> None:
    """Protects 12-bit data from one image in twenty with a value of 16 bits; half of the range is no oddity."""
    assert rule_of("integer", [(0, 4000)] * 39 + [(0, 65535)]) == Levels(0, 4095)
    assert rule_of("integer", [(0, 1000)] * 39 + [(0, 4000)]) == Levels(0, 4095)
    assert rule_of("integer", [(0, 4000)] * 5 + [(0, 65535)]) == Levels(0, 65535)


_numbers = st.floats(-1e30, 1e30, allow_subnormal=False)


@given(st.lists(st.tuples(_numbers, _numbers).map(sorted).map(tuple), min_size=1, max_size=19))
def test_no_image_is_lost(ranges: list[tuple[float, float]]) -> None:
    """Protects content: where fewer than 20 images are known, the rule holds them all, and not many times over."""
    for kind in ("integer", "float"):
        rule = rule_of(kind, ranges)  # type: ignore[arg-type]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        near = 1e-9 * max(abs(low), abs(high))
        assert rule.low < rule.high
        assert rule.low <= low + near and high <= rule.high + near
        if high > low + 1e-9 * max(abs(low), abs(high)):
            assert rule.high - rule.low <= 8.001 * (high - low)


@given(st.lists(st.integers(-3000, 70000), min_size=1, max_size=200))
def test_scaling_keeps_the_order(values: list[int]) -> None:
    """Protects brightness: a larger value is never darker, the same value is the same grey, and all is counted."""
    row = np.array([sorted(values)], dtype=np.int32)
    grey, clipped = scaled(lambda top, end: row[top:end], (row.shape[1], 1), Levels(0, 4095))
    assert (np.diff(grey[0].astype(int)) >= 0).all()
    assert clipped == sum(value < 0 or value > 4095 for value in values)
    expected = np.clip(row / 4095, 0, 1) * 255
    assert np.abs(grey - expected).max() <= 0.5


def test_twelve_bits_keep_their_levels() -> None:
    """Protects: 4,096 values give all 256 greys, and 16 bits those of a division by 257."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    grey, clipped = scaled(lambda top, end: values[top:end], (64, 64), rule_of("integer", [(0, 4095)]))
    assert len(np.unique(grey)) == 256 and not clipped
    wide = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    grey, _ = scaled(lambda top, end: wide[top:end], (256, 256), UNSEEN["integer"])
    assert np.array_equal(grey, np.round(wide / 257))


def test_ranges_ignore_dead_pixels() -> None:
    """Protects the rule from one hot pixel, and from values that are no numbers."""
    values = np.full((100, 100), 4000, np.uint16)
    values[0, 0] = 65535
    assert range_of(values) == (4000, 4000)
    assert range_of(np.array([1.0, np.nan])) is None
    assert range_of(np.zeros((0, 3))) is None


def test_rules_survive_json() -> None:
    """Protects data.json: what is written is what is read, and damage is said."""
    rules = {"integer": Levels(0, 4095), "float": Levels(-1, 1)}
    assert from_json(as_json(rules)) == rules  # type: ignore[arg-type]
    for bad in ({"integer": [1, 1]}, {"float": [0, float("inf")]}, {"text": [0, 1]}, [], {"float": [0]}):
        with pytest.raises(ValueError):
            from_json(bad)
