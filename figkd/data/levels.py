"""Images of more than 8 bits a value: which of their values is black and which is white.

One rule for all images of a data set: a rule by each image's own extremes would show the same value in two
images as two greys. The rule is decided from the range of values in some of the training images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.integer[Any]] | npt.NDArray[np.floating[Any]]

Kind = Literal["integer", "float"]
"""How values are stored: 16- and 32-bit integers share a rule, floating-point values have their own."""


@dataclass(frozen=True)
class Levels:
    """The values that become 0 and 255; what lies beyond them is clipped.

    Attributes:
        low: becomes 0.
        high: becomes 255; larger than `low`.
    """

    low: float
    high: float


Rules = Mapping[Kind, Levels]

UNSEEN: Rules = {"integer": Levels(0, 65535), "float": Levels(0, 1)}
"""What counts where no training image tells: the whole of 16 bits, and 0 to 1."""

_CUSTOMARY: Mapping[Kind, Sequence[Levels]] = {
    "integer": [Levels(0, 2**bits - 1) for bits in (8, 10, 12, 14, 16)],
    "float": [Levels(0, 1), Levels(-1, 1), Levels(0, 255)],
}
"""Ranges in which cameras and programs write, the smallest first."""

# A range this many times as wide as the values seen would leave fewer than 32 of the 256 levels.
_TOO_WIDE = 8
_STRIP_VALUES = 1 << 20


def range_of(values: Values) -> tuple[float, float] | None:
    """Nearly the smallest and largest of some values, without the odd dead or hot pixel; None if one is not finite."""
    numbers = values.astype(np.float64).ravel()
    if not numbers.size or not np.isfinite(numbers).all():
        return None
    low, high = np.percentile(numbers, (0.1, 99.9))
    return float(low), float(high)


def rule_of(kind: Kind, ranges: Sequence[tuple[float, float]]) -> Levels:
    """The rule for a data set some of whose images have these ranges of values.

    It is the smallest customary range (8, 10, 12, 14, 16 bits; 0..1, -1..1, 0..255) that holds them and leaves them
    at least 32 grey levels, else their own range, rounded outwards. An image in twenty that would cost the others
    more than that is not asked.
    """
    if not ranges:
        return UNSEEN[kind]
    lows, highs = sorted(low for low, _ in ranges), sorted((high for _, high in ranges), reverse=True)
    odd = len(ranges) // 20
    everything, usual = _holding(kind, lows[0], highs[0]), _holding(kind, lows[odd], highs[odd])
    return usual if _width(everything) > _TOO_WIDE * _width(usual) else everything


def scaled(
    strip: Callable[[int, int], Values], size: tuple[int, int], levels: Levels, transparent: int | None = None
) -> tuple[npt.NDArray[np.uint8], int]:
    """Values of more than 8 bits as 8 bits, strip by strip, so that no wide copy of an image is made.

    Args:
        strip: gives the rows from one to before another, [rows, width].
        size: width and height.
        levels: the rule.
        transparent: a value that becomes white, whatever the rule says.

    Returns:
        uint8 [height, width], and how many values were clipped.

    Raises:
        ValueError: a value is not finite.
    """
    width, height = size
    grey = np.empty((height, width), dtype=np.uint8)
    clipped = 0
    rows = max(1, _STRIP_VALUES // max(1, width))
    for top in range(0, height, rows):
        values = strip(top, min(top + rows, height))
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("pixel values that are not finite")
        clipped += int(np.count_nonzero((numbers < levels.low) | (numbers > levels.high)))
        # Divided first: 255 / the width of the smallest ranges is not finite.
        numbers = (numbers - levels.low) / _width(levels)
        part = np.rint(np.clip(numbers, 0, 1) * 255).astype(np.uint8)
        if transparent is not None:
            part[values == transparent] = 255
        grey[top : top + rows] = part
    return grey, clipped


def as_json(rules: Rules) -> dict[str, list[float]]:
    """Rules as data.json keeps them: kind to the values that become 0 and 255."""
    return {kind: [rule.low, rule.high] for kind, rule in rules.items()}


def from_json(found: object) -> Rules:
    """The inverse of `as_json`.

    Raises:
        ValueError: these are no rules.
    """
    if not isinstance(found, dict) or not found.keys() <= {"integer", "float"}:
        raise ValueError("the levels are none")
    rules: dict[Kind, Levels] = {}
    for kind, pair in found.items():
        low, high = (float(value) for value in pair)
        if not (low < high and math.isfinite(high - low)):
            raise ValueError(f"levels from {low} to {high}")
        rules[kind] = Levels(low, high)
    return rules


def _holding(kind: Kind, low: float, high: float) -> Levels:
    holding = [rule for rule in _CUSTOMARY[kind] if rule.low <= low and high <= rule.high]
    if high <= low:
        return holding[0] if holding else Levels(low, low + max(1.0, abs(low)))
    if holding and _width(holding[0]) <= _TOO_WIDE * (high - low):
        return holding[0]
    step = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    return Levels(_tidy(math.floor(low / step) * step), _tidy(math.ceil(high / step) * step))


def _tidy(value: float) -> float:
    """Without the last digits, which are of the arithmetic and not of the value."""
    return float(f"{value:.12g}")


def _width(levels: Levels) -> float:
    return levels.high - levels.low
