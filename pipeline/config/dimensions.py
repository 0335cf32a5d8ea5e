"""A search space as typed dimensions: what a setting can be, and how many there are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

Setting = JsonValue
Settings = Mapping[str, Setting]
"""Config key to value."""


@dataclass(frozen=True)
class Choice:
    """One of a few values, each once."""

    values: tuple[Setting, ...]


@dataclass(frozen=True)
class Real:
    """A number from `low` to `high`, both of which belong to it."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`, both of which belong to it."""

    low: int
    high: int


AnyDimension = Choice | Real | Whole
Space = Mapping[str, AnyDimension]


def size(space: Space) -> float:
    """How many points a space has; infinite where a dimension has real numbers between its ends."""
    return math.prod(_size(dimension) for dimension in space.values())


def point(space: Space, index: int) -> dict[str, Setting]:
    """The point of a finite space with a number from 0; the last key varies fastest."""
    settings: dict[str, Setting] = {}
    for key, dimension in reversed(list(space.items())):
        values = values_of(dimension)
        index, place = divmod(index, len(values))
        settings[key] = values[place]
    return {key: settings[key] for key in space}


def values_of(dimension: AnyDimension) -> Sequence[Setting]:
    """All values of a finite dimension."""
    if isinstance(dimension, Choice):
        return dimension.values
    if isinstance(dimension, Whole):
        return range(dimension.low, dimension.high + 1)
    return (dimension.low,)


def identity(settings: Settings) -> str:
    """A text that equal settings share."""
    return json.dumps(settings, sort_keys=True)


def _size(dimension: AnyDimension) -> float:
    if isinstance(dimension, Choice):
        return len(dimension.values)
    if isinstance(dimension, Whole):
        return dimension.high - dimension.low + 1
    return 1 if dimension.low == dimension.high else math.inf
