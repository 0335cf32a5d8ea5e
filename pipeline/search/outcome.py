"""From what a search knows at its end to `search.json`. Pure, but for the time and the machine's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from pipeline.config.dimensions import AnyDimension, Choice, Whole
from pipeline.config.objectives import Objective
from pipeline.config.schema import Budgets, goals_of
from pipeline.config.search_file import LoadedSearch
from pipeline.places import environment
from pipeline.results.rows.trials import Trial
from pipeline.results.searched import (
    Confirmed,
    Effort,
    Point,
    SearchedTrial,
    SearchResult,
    Sought,
)
from pipeline.search.front import front_of
from pipeline.search.points import Judge
from pipeline.search.study import Studied

_SHOWN_VALUES = 8


def points_with_front(studied: Studied, judge: Judge) -> list[Point]:
    """Every point, those on the front numbered: the best at the first objective is 1.

    A point that misses a budget is not on it.
    """
    points = [
        point for trial in studied.trials for point in judge.points(trial, studied.rows.get(trial.number, ()))
    ]
    good = {point.id: judge.losses(point) for point in points if not point.misses}
    front = sorted(front_of(good), key=lambda name: (good[name], name))
    number = {name: place for place, name in enumerate(front, 1)}
    return [point.model_copy(update={"front": number.get(point.id)}) for point in points]


def assemble(
    search: LoadedSearch, studied: Studied, points: list[Point], confirmed: Mapping[str, Confirmed]
) -> SearchResult:
    """The document of a search.

    Args:
        search: what was asked.
        studied: what came of it.
        points: of `points_with_front`.
        confirmed: by the id of the point.
    """
    section = search.section
    return SearchResult(
        name=search.name,
        base=search.base.name,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        sampler=section.sampler,
        objectives=[
            Sought(
                name=o.name,
                metric=o.metric.name,
                target=o.target,
                direction=o.direction,
                limit=_limit(o, search.base.budgets),
            )
            for o in search.objectives
        ],
        space={key: in_short(dimension) for key, dimension in search.space.items()},
        seeds=section.seeds,
        rungs=list(search.rungs),
        validation_images=max((t.seeds[0].student.n for t in studied.trials if t.seeds), default=0),
        trials=[_row(trial) for trial in studied.trials],
        points=[point.model_copy(update={"confirmed": confirmed.get(point.id)}) for point in points],
        effort=Effort(
            epochs=sum(trial.epochs for trial in studied.trials),
            epochs_of_everything=sum(_full_epochs(search, trial) for trial in studied.trials),
            training_seconds=sum(trial.seconds for trial in studied.trials),
            shared_seconds=studied.shared_seconds,
        ),
        cpu=environment.cpu_model(),
        gpu=environment.gpu_name(),
    )


def in_short(dimension: AnyDimension) -> str:
    """A dimension as one line: its values, the first of many, or its range."""
    if isinstance(dimension, Choice):
        shown = [v if isinstance(v, str) else json.dumps(v) for v in dimension.values[:_SHOWN_VALUES]]
        more = len(dimension.values) - len(shown)
        return ", ".join(shown) + (f" and {more:,} more" if more else "")
    if isinstance(dimension, Whole):
        return f"{dimension.low} to {dimension.high}"
    return f"{dimension.low:g} to {dimension.high:g}{', logarithmic' if dimension.log else ''}"


def _limit(objective: Objective, budgets: Budgets) -> float | None:
    for metric, goal in goals_of(budgets):
        concerns = goal.target is None or not objective.target or objective.target in goal.target
        if metric.name == objective.metric.name and concerns and goal.precision is None:
            return goal.max if objective.direction == "min" else goal.min
    return None


def _full_epochs(search: LoadedSearch, trial: Trial) -> int:
    if trial.state == "failed":  # in full it would have failed as well
        return trial.epochs
    given = trial.settings.get("distill.epochs", search.base.distill.epochs)
    epochs = search.rungs[-1] if search.rungs else given if isinstance(given, int) else 0
    return search.section.seeds * epochs


def _row(trial: Trial) -> SearchedTrial:
    return SearchedTrial(
        number=trial.number,
        settings=dict(trial.settings),
        state=trial.state,
        reason=trial.reason,
        fix=trial.fix,
        epochs=trial.epochs,
        val_top1=[rung.val_top1 for rung in trial.rungs],
        seconds=trial.seconds,
        failures=list(trial.failures),
    )
