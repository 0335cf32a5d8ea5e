"""What a trial is worth: a point for each precision, from its validation scores and its untrained engines. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.metrics import Metric
from pipeline.config.objectives import Objective
from pipeline.config.schema import Budgets, goals_of
from pipeline.results.rows.scouted import ScoutRow
from pipeline.results.rows.trials import Trial, ValidationScore
from pipeline.results.searched import Missed, Point, Value
from pipeline.search.front import Losses
from pipeline.search.scouted import AsEngine, at_ends, held_against

Files = Mapping[tuple[str, str], str]
"""The ONNX file of a target and a precision."""


@dataclass(frozen=True)
class Judge:
    """What points are judged by.

    Attributes:
        objectives: what is sought.
        budgets: constraints.
        files: which ONNX file each target reads in each precision.
    """

    objectives: Sequence[Objective]
    budgets: Budgets
    files: Files

    def points(self, trial: Trial, rows: Sequence[ScoutRow]) -> list[Point]:
        """The points of a trial whose students are finished; none if it is not.

        Args:
            trial: the trial.
            rows: its untrained engines; empty if nothing was scouted.
        """
        if trial.state != "finished":
            return []
        found = (self._point(trial, precision, rows) for precision in self._precisions(rows))
        return [point for point in found if point is not None]

    def losses(self, point: Point) -> Losses:
        """Its values as the front compares them."""
        return tuple(each.loss(point.values[each.name].value) for each in self.objectives)

    def losses_so_far(self, trial: Trial, epochs: int, rows: Sequence[ScoutRow]) -> list[Losses]:
        """What halving compares after `epochs`: the student's validation top-1 so far, and each precision's engine.

        Every objective on validation images is stood for by top-1: nothing else is known before a training ends.
        """
        top1 = next(rung.val_top1 for rung in trial.rungs if rung.epochs == epochs)
        return self._with_accuracy(top1, rows)

    def told(self, trial: Trial, rows: Sequence[ScoutRow]) -> tuple[Losses | None, float]:
        """What a sampler learns of a trial: its losses (None if it failed) and how far it misses the budgets.

        A trial is several points; each objective is the best of those that meet the budgets, or of all if none does.
        What was not trained counts as never right; what halving paused counts by its accuracy then.
        """
        if trial.state == "failed":
            return None, 0.0
        points = self.points(trial, rows)
        if points:
            good = [point for point in points if not point.misses] or points
            violation = min(sum(map(_excess, point.misses)) for point in good)
            return _best([self.losses(point) for point in good]), violation
        top1 = trial.rungs[-1].val_top1 if trial.rungs else 0.0
        rows = [row for row in rows if row.timed]
        each = self._with_accuracy(top1, rows)
        excess = [sum(map(_excess, engine_misses(row, self.budgets))) for row in rows]
        return (_best(each) if each else None), min(excess, default=0.0)

    def _with_accuracy(self, top1: float, rows: Sequence[ScoutRow]) -> list[Losses]:
        found = []
        for precision in self._precisions(rows):
            values = []
            for objective in self.objectives:
                if not objective.target:
                    values.append(objective.loss(top1))
                    continue
                row = _row(rows, objective.target, precision)
                value = None if row is None else objective.of(AsEngine(row))
                if value is not None:
                    values.append(objective.loss(value))
            if len(values) == len(self.objectives):
                found.append(tuple(values))
        return found

    def _targets(self) -> list[str]:
        named = list(dict.fromkeys(each.target for each in self.objectives if each.target))
        return named or list(dict.fromkeys(target for target, _ in self.files))

    def _precisions(self, rows: Sequence[ScoutRow]) -> list[str]:
        every = dict.fromkeys(precision for target, precision in self.files if target in self._targets())
        if not any(each.target for each in self.objectives):
            return list(every)
        timed = {(row.target, row.precision) for row in rows if row.timed}
        return [p for p in every if all((t, p) in timed for t in self._targets())]

    def _point(self, trial: Trial, precision: str, rows: Sequence[ScoutRow]) -> Point | None:
        scores = [self._score(seed.files, precision) for seed in trial.seeds]
        known = [score for score in scores if score is not None]
        if not known or len(known) < len(scores):
            return None  # the precision could not be made of this student
        values: dict[str, Value] = {}
        for objective in self.objectives:
            value = (
                _engine_value(objective, _row(rows, objective.target, precision))
                if objective.target
                else _validation_value(objective.metric, known)
            )
            if value is None:
                return None
            values[objective.name] = value
        misses = [*self._accuracy_misses(trial, precision, known)]
        for row in rows:
            if row.precision == precision and row.timed and row.target in self._targets():
                misses += engine_misses(row, self.budgets)
        return Point(
            id=f"t{trial.number:04d}/{precision}",
            trial=trial.number,
            precision=precision,
            values=values,
            misses=misses,
        )

    def _score(self, files: Mapping[str, ValidationScore], precision: str) -> ValidationScore | None:
        """The precision's score; where targets read different files, the worst of them."""
        names = {
            self.files[target, precision] for target in self._targets() if (target, precision) in self.files
        }
        if not names or not names <= set(files):
            return None
        return min((files[name] for name in sorted(names)), key=lambda score: score.top1)

    def _accuracy_misses(
        self, trial: Trial, precision: str, scores: Sequence[ValidationScore]
    ) -> Iterator[Missed]:
        for metric, goal in goals_of(self.budgets):
            if not metric.of_weights or (goal.precision is not None and precision not in goal.precision):
                continue
            if goal.target is not None and not set(goal.target) & set(self._targets()):
                continue
            value = _mean(metric, scores)
            student = _mean(metric, [seed.student for seed in trial.seeds])
            target = "" if goal.target is None else goal.target[0]
            if value is not None and goal.min is not None and value < goal.min:
                yield Missed(metric=metric.name, target=target, side="min", limit=goal.min, value=value)
            if value is None or student is None or goal.max_drop is None or metric.of_answers is None:
                continue
            if student - value > goal.max_drop:
                yield Missed(
                    metric=metric.name,
                    target=target,
                    side="max_drop",
                    limit=goal.max_drop,
                    value=student - value,
                )


def engine_misses(row: ScoutRow, budgets: Budgets) -> list[Missed]:
    """The budgets that an untrained engine misses for certain."""
    return [
        Missed(metric=held.metric, target=row.target, side=held.side, limit=held.limit, value=held.value)
        for held in held_against(row, budgets)
        if held.verdict == "misses" and held.value is not None
    ]


def _row(rows: Sequence[ScoutRow], target: str, precision: str) -> ScoutRow | None:
    return next(
        (row for row in rows if row.target == target and row.precision == precision and row.timed), None
    )


def _engine_value(objective: Objective, row: ScoutRow | None) -> Value | None:
    if row is None or (value := objective.of(AsEngine(row))) is None:
        return None
    ends = [objective.of(AsEngine(end)) for end in at_ends(row)]
    known = sorted(end for end in ends if end is not None)
    if len(known) < 2 or known[0] == known[-1]:
        return Value(value=value)
    return Value(value=value, low=min(known[0], value), high=max(known[-1], value))


def _validation_value(metric: Metric, scores: Sequence[ValidationScore]) -> Value | None:
    """The mean over the seeds. Its interval: of the seeds (Student's t), else of the images (Wilson's, for top-1)."""
    value = _mean(metric, scores)
    if value is None:
        return None
    if len(scores) > 1:
        each = [found for score in scores if (found := _of(metric, score)) is not None]
        half = _student_t(len(each)) * statistics.stdev(each) / math.sqrt(len(each))
        return Value(value=value, low=max(0.0, value - half), high=min(100.0, value + half))
    if metric.name != "top1":
        return Value(value=value)
    from export.proportions import wilson

    low, high = wilson(value / 100 * scores[0].n, scores[0].n)
    return Value(value=value, low=100 * low, high=100 * high)


def _student_t(n: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.975))


def _mean(metric: Metric, scores: Sequence[ValidationScore]) -> float | None:
    each = [_of(metric, score) for score in scores]
    known = [value for value in each if value is not None]
    return statistics.fmean(known) if known and len(known) == len(each) else None


def _of(metric: Metric, score: ValidationScore) -> float | None:
    return metric.of_answers(score) if metric.of_answers else None


def _excess(missed: Missed) -> float:
    """How far a budget is missed, as a share of its limit."""
    return abs(missed.value - missed.limit) / max(abs(missed.limit), 1e-9)


def _best(each: Sequence[Losses]) -> Losses:
    return tuple(min(values) for values in zip(*each, strict=True))
