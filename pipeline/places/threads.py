"""The numbers of CPU threads that an engine was tried with, as a report lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class Tried(TypedDict):
    """A number of threads that was not chosen: how many times as long it takes as the chosen one."""

    threads: int
    times: Mapping[str, float]
    """As `export.stats.ratio` has it."""


def tried(chosen: int, medians: Mapping[int, Sequence[float]]) -> list[Tried]:
    """What each other number of threads came to.

    Args:
        chosen: the number that the engine has.
        medians: of each number in each round (`export.runtime.threads`); empty where there was nothing to choose.
    """
    from export.stats import ratio

    return [
        {"threads": count, "times": ratio(values, medians[chosen])}
        for count, values in sorted(medians.items())
        if count != chosen
    ]
