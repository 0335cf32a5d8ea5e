"""How many times as long one engine takes as another, and whether that is a difference: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from export.stats import ratio
from pipeline.results.choice import Ratio
from pipeline.results.latency import BenchmarkRow, Latency

TIE = 0.01
"""Engines whose medians differ by less are as fast as each other, however sure the difference is."""


def times(row: Latency, other: Latency) -> Ratio:
    """How many times as long `row` takes as `other`.

    Round by round where both took turns, else from the medians alone, without an interval.
    """
    if row.round_medians and other.round_medians:
        return Ratio.model_validate(ratio(row.round_medians, other.round_medians))
    plain = row.median / other.median
    return Ratio(ratio=plain, low=plain, high=plain, n=1)


def is_tie(found: Ratio | None) -> bool:
    """The two cannot be told apart, or not by an amount that matters."""
    return found is not None and (found.low <= 1 <= found.high or abs(found.ratio - 1) <= TIE)


@dataclass(frozen=True)
class Placed:
    """A row among those that were measured alike."""

    row: BenchmarkRow
    times: Ratio
    """How many times as long it takes as the fastest."""
    tie: bool
    """It cannot be told from the fastest."""


@dataclass(frozen=True)
class Ranking:
    """Rows of one boundary, batch and load, the fastest first."""

    placed: tuple[Placed, ...]

    @property
    def first(self) -> BenchmarkRow:
        """The fastest."""
        return self.placed[0].row


def rankings(rows: Sequence[BenchmarkRow]) -> list[Ranking]:
    """Rows side by side with those that were measured alike, in the order in which these kinds first appear."""
    kinds: dict[tuple[object, ...], list[BenchmarkRow]] = {}
    for row in rows:
        kind = (row.boundary, row.batch, row.streams, row.rate_fps, row.power_mode)
        kinds.setdefault(kind, []).append(row)
    return [_ranking(members) for members in kinds.values()]


def _ranking(rows: Sequence[BenchmarkRow]) -> Ranking:
    ordered = sorted(rows, key=lambda row: (row.median, row.id))
    found = [(row, times(row, ordered[0])) for row in ordered]
    return Ranking(tuple(Placed(row, ratio, is_tie(ratio)) for row, ratio in found))
