"""What a search seeks, by name: the metrics of budgets, on validation images or of a target's engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.metrics import METRICS, Measured, Measuring, Metric
from pipeline.config.problems import Problem, did_you_mean
from pipeline.config.search import Direction

VALIDATION = "val_"
ACCURACY = "val_top1"
"""What halving goes by, and what every search needs to know of a trial."""
_UNSCOUTED = {"deadline_miss_percent"}
"""Metrics of engines that are not measured of untrained networks."""


@dataclass(frozen=True)
class Objective:
    """A metric that is to be as large or as small as possible.

    Attributes:
        name: as the search file has it.
        metric: what it is.
        target: whose engine; empty for accuracy on validation images.
        direction: which way is better.
    """

    name: str
    metric: Metric
    target: str
    direction: Direction

    @property
    def words(self) -> str:
        """Name in reports: 'validation top-1', 'median latency on cpu'."""
        return f"{self.metric.words} on {self.target}" if self.target else f"validation {self.metric.words}"

    @property
    def unit(self) -> str:
        """Unit in reports."""
        return self.metric.unit

    def of(self, measured: Measured) -> float | None:
        """The value for what is known of an engine; None if it was not measured."""
        return self.metric.of(measured)

    def loss(self, value: float) -> float:
        """The value with its sign such that less is better."""
        return value if self.direction == "min" else -value


def objectives_of(
    wanted: Mapping[str, Direction], targets: Sequence[str], benchmark: Measuring, key: str
) -> tuple[list[Objective], list[Problem]]:
    """The objectives that a search names, and what is wrong with the others.

    Args:
        wanted: name to direction.
        targets: the config's.
        benchmark: what the config says of measuring.
        key: where the names stand, for problems.
    """
    found: list[Objective] = []
    problems: list[Problem] = []
    for name, direction in wanted.items():
        place, (base, at, target) = f"{key}.{name}", name.partition("@")
        metric = METRICS.get(base.removeprefix(VALIDATION))
        if metric is None or (name not in _names(targets) and base not in _bases()):
            fix = did_you_mean(name, _names(targets))
            problems.append(Problem(place, "unknown objective", fix, direction))
        elif base.startswith(VALIDATION) and at:
            problems.append(
                Problem(place, "is of validation images, not of a target", f"write {base}", direction)
            )
        elif not base.startswith(VALIDATION) and not at and len(targets) > 1:
            fix = " or ".join(f"{base}@{each}" for each in targets)
            problems.append(Problem(place, "does not say of which target", f"write {fix}", direction))
        elif at and target not in targets:
            problems.append(
                Problem(place, f"there is no target '{target}'", did_you_mean(target, targets), direction)
            )
        elif direction != (better := _better(metric)):
            problems.append(Problem(place, "is better the other way", f"write {better}", direction))
        elif not base.startswith(VALIDATION) and (lack := metric.unmeasured(benchmark)):
            problems.append(Problem(place, lack[0], lack[1], direction))
        else:
            of = "" if base.startswith(VALIDATION) else target or targets[0]
            found.append(Objective(name, metric, of, direction))
    if found and not problems and ACCURACY not in {each.name for each in found}:
        fix = "add 'val_top1: max'; a search without it is a scouting: figkd-pipeline scout"
        problems.append(Problem(key, f"do not name {ACCURACY}, which training is for", fix))
    return found, problems


def _better(metric: Metric) -> Direction:
    return "min" if "max" in metric.sides else "max"


def _of_answers() -> Iterator[Metric]:
    return (metric for metric in METRICS.values() if metric.of_answers)


def _of_engines() -> Iterator[Metric]:
    of_answers = {metric.name for metric in _of_answers()} | {"agreement"} | _UNSCOUTED
    return (metric for metric in METRICS.values() if metric.name not in of_answers)


def _bases() -> list[str]:
    return [f"{VALIDATION}{m.name}" for m in _of_answers()] + [m.name for m in _of_engines()]


def _names(targets: Sequence[str]) -> list[str]:
    """Every name that is possible."""
    of_answers = [f"{VALIDATION}{metric.name}" for metric in _of_answers()]
    return of_answers + [f"{metric.name}@{target}" for metric in _of_engines() for target in targets]
