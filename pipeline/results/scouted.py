"""What untrained candidates cost on the targets, held against the budgets: pure functions over `scout.json`'s rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.config.metrics import Answers, Metric
from pipeline.config.schema import Budgets, Goal, goals_of
from pipeline.results.rows.scouted import Candidate, ScoutRow

Verdict = Literal["fits", "close", "misses", "unknown"]


@dataclass(frozen=True)
class Held:
    """A row against one goal. `close`: the limit lies within the value's 95 % interval; `unknown`: not measured."""

    metric: str
    side: Literal["min", "max"]
    limit: float
    value: float | None
    verdict: Verdict


@dataclass(frozen=True)
class _Timed:
    boundary: str
    median: float
    p99: float | None
    throughput: float
    rate_fps: float | None = None
    deadline_miss_percent: float | None = None


@dataclass(frozen=True)
class _Powered:
    mj_per_image: float


@dataclass(frozen=True)
class AsEngine:
    """A row as metrics read an engine (`pipeline.config.metrics.Measured`); `accuracy` is None while untrained."""

    row: ScoutRow
    accuracy: Answers | None = None

    @property
    def latency(self) -> Sequence[_Timed]:
        """The row, if it was timed."""
        found = self.latency_at()
        return [] if found is None else [found]

    @property
    def energy(self) -> _Powered | None:
        """Of one image."""
        return None if self.row.energy_mj is None else _Powered(self.row.energy_mj)

    @property
    def engine_mb(self) -> float | None:
        """MB of 10^6 bytes."""
        return None if self.row.engine_bytes is None else self.row.engine_bytes / 1e6

    def latency_at(self, boundary: str = "engine") -> _Timed | None:
        """Only the boundary `engine` is measured."""
        row = self.row
        if row.p50_ms is None or boundary != "engine":
            return None
        throughput = row.throughput or 1000 * row.batch / row.p50_ms
        return _Timed("engine", row.p50_ms, row.p99_ms, throughput)


def held_against(row: ScoutRow, budgets: Budgets) -> list[Held]:
    """Every goal that concerns the row and needs no training, in the order of the budgets."""
    found = []
    for metric, goal in goals_of(budgets):
        if metric.of_weights or not concerns(goal, row):
            continue
        if goal.max is not None:
            found.append(_held(row, metric, "max", goal.max))
        if goal.min is not None:
            found.append(_held(row, metric, "min", goal.min))
    return found


def fits(rows: Sequence[ScoutRow], budgets: Budgets) -> list[ScoutRow]:
    """The rows that ran and miss no goal for certain: with those that are close, or not judged in all."""
    return [
        row
        for row in rows
        if row.timed and all(held.verdict != "misses" for held in held_against(row, budgets))
    ]


def candidates_that_fit(rows: Sequence[ScoutRow], budgets: Budgets) -> list[Candidate]:
    """The candidates that have, on every target where anything at all was timed, an engine that fits.

    A goal that names precisions or targets judges only these. A target where nothing could be timed excludes nobody.
    """
    targets = {row.target for row in rows if row.timed}
    fitting = {(row.candidate, row.target) for row in fits(rows, budgets)}
    every = dict.fromkeys(row.candidate for row in rows)
    return [each for each in every if targets and all((each, target) in fitting for target in targets)]


def concerns(goal: Goal, row: ScoutRow) -> bool:
    """Whether a goal is about a row's target and precision."""
    return (goal.precision is None or row.precision in goal.precision) and (
        goal.target is None or row.target in goal.target
    )


def _held(row: ScoutRow, metric: Metric, side: Literal["min", "max"], limit: float) -> Held:
    value = metric.of(AsEngine(row))
    low, high = (metric.of(AsEngine(end)) for end in at_ends(row))
    return Held(metric.name, side, limit, value, _verdict(value, low, high, side, limit))


def at_ends(row: ScoutRow) -> tuple[ScoutRow, ScoutRow]:
    """The row with its latencies at the lower and at the upper ends of their 95 % intervals."""
    p50 = row.p50_interval or (row.p50_ms, row.p50_ms)
    # A p99 that was not measured is at least the median, which was.
    p99 = row.p99_interval or ((row.p99_ms, row.p99_ms) if row.p99_ms is not None else (p50[0], None))
    low, high = ({"p50_ms": p50[end], "p99_ms": p99[end]} for end in (0, 1))
    return row.model_copy(update=low), row.model_copy(update=high)


def _verdict(
    value: float | None, low: float | None, high: float | None, side: Literal["min", "max"], limit: float
) -> Verdict:
    if value is None:
        return "misses" if side == "max" and low is not None and low > limit else "unknown"
    if low is not None and high is not None and min(low, high) <= limit <= max(low, high) and low != high:
        return "close"
    return "fits" if (value <= limit if side == "max" else value >= limit) else "misses"
