"""What a budget can be set on: one entry a metric, from which everything else about it is derived.

The config's section `budgets`, its checks, the editors' schema, the reference, the judging of engines and the words of
the reports read this table. The types say what an entry needs to see of an engine and of the config's `benchmark`
section; `pipeline.results.engine.Engine` and `pipeline.config.schema.Benchmark` are such types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Side = Literal["min", "max", "max_drop"]
SIDES: tuple[Side, ...] = ("min", "max", "max_drop")
P99_SAMPLES = 1000
"""Fewest samples that have a 99th percentile."""


class Answers(Protocol):
    """How good answers are, percent of the test images."""

    @property
    def top1(self) -> float: ...
    @property
    def top5(self) -> float | None: ...
    @property
    def mean_per_class(self) -> float: ...
    @property
    def worst_class(self) -> float: ...
    @property
    def agreement(self) -> float | None: ...


class Timed(Protocol):
    """A row of latencies."""

    @property
    def boundary(self) -> str: ...
    @property
    def median(self) -> float: ...
    @property
    def p99(self) -> float | None: ...
    @property
    def throughput(self) -> float: ...
    @property
    def rate_fps(self) -> float | None: ...
    @property
    def deadline_miss_percent(self) -> float | None: ...


class Powered(Protocol):
    """What an engine's energy was measured to be."""

    @property
    def mj_per_image(self) -> float: ...


class Measured(Protocol):
    """What is known of an engine."""

    @property
    def accuracy(self) -> Answers | None: ...
    @property
    def latency(self) -> Sequence[Timed]: ...
    @property
    def energy(self) -> Powered | None: ...
    @property
    def engine_mb(self) -> float | None: ...
    def latency_at(self, boundary: str = "engine") -> Timed | None: ...


class Measuring(Protocol):
    """What the config says of measuring."""

    @property
    def boundaries(self) -> Sequence[str]: ...
    @property
    def min_samples(self) -> int: ...
    @property
    def rate_fps(self) -> float | None: ...
    @property
    def energy_s(self) -> float: ...


@dataclass(frozen=True)
class Metric:
    """A metric that a budget can be set on.

    Attributes:
        name: key in the section `budgets`.
        meaning: the key's text, with the unit.
        words: name in reports.
        unit: of values and limits, as reports write it; a drop is in points.
        digits: that reports show after the point.
        sides: of a goal that make sense.
        of: the value for an engine; None if it was not measured.
        of_answers: for metrics that `max_drop` can compare: the value for the torch student's answers.
        short: name where there is little room; else `words`.
        plain: name for readers who know no jargon; else `words`.
        absolute: a smallest value of it says how good is good enough, whatever the student is.
        moved_by_load: others at work on the machine change it.
        of_weights: it depends on what a network has learnt, so that an untrained one cannot be judged by it.
        unmeasured: what the config lacks for it to be measured, and how to fix that; None if nothing.
    """

    name: str
    meaning: str
    words: str
    unit: str
    digits: int
    sides: tuple[Side, ...]
    of: Callable[[Measured], float | None]
    of_answers: Callable[[Answers], float | None] | None = None
    short: str = ""
    plain: str = ""
    absolute: bool = False
    moved_by_load: bool = False
    of_weights: bool = False
    unmeasured: Callable[[Measuring], tuple[str, str] | None] = lambda _: None


def _answers(
    name: str,
    words: str,
    meaning: str,
    of: Callable[[Answers], float | None],
    *,
    own: bool = True,
    plain: str = "",
) -> Metric:
    """A metric of the answers to the test images; `own`: it can be held against the student's."""

    def value(engine: Measured) -> float | None:
        return None if engine.accuracy is None else of(engine.accuracy)

    sides: tuple[Side, ...] = ("min", "max_drop") if own else ("min",)
    compared = of if own else None
    return Metric(
        name, meaning, words, "%", 2, sides, value, compared, plain=plain, absolute=own, of_weights=True
    )


def _timed(
    name: str,
    words: str,
    meaning: str,
    unit: str,
    digits: int,
    side: Side,
    of: Callable[[Timed], float | None],
    *,
    short: str = "",
    samples: int = 0,
) -> Metric:
    """A metric of latencies at boundary `engine` and the first batch size."""

    def value(engine: Measured) -> float | None:
        row = engine.latency_at("engine")
        return None if row is None else of(row)

    def unmeasured(benchmark: Measuring) -> tuple[str, str] | None:
        if "engine" not in benchmark.boundaries:
            return "is judged at boundary 'engine', which is not measured", "add it to benchmark.boundaries"
        if benchmark.min_samples < samples:
            found = f"benchmark.min_samples = {benchmark.min_samples}"
            return f"a p99 needs {samples} samples; {found}", "raise it"
        return None

    return Metric(
        name, meaning, words, unit, digits, (side,), value, short=short, moved_by_load=True, unmeasured=unmeasured
    )  # fmt: skip


def _late(engine: Measured) -> float | None:
    paced = {row.boundary: row for row in engine.latency if row.rate_fps is not None}
    at = paced.get("image_to_class") or paced.get("engine")
    return at.deadline_miss_percent if at else None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _answers("top1", "top-1", "Top-1 accuracy, percent.", lambda a: a.top1, plain="right answers"),
        _answers("top5", "top-5", "Top-5 accuracy, percent.", lambda a: a.top5, plain="right answers within five"),
        _answers(
            "mean_per_class", "mean per class", "Mean of the per-class accuracies, percent.",
            lambda a: a.mean_per_class,
        ),
        _answers(
            "worst_class", "worst class", "Accuracy of the worst class, percent.", lambda a: a.worst_class
        ),
        _answers(
            "agreement", "agreement", "Share of images with the same top-1 as the torch student, percent.",
            lambda a: a.agreement, own=False,
        ),
        _timed(
            "latency_p50_ms", "median latency", "Median latency at boundary `engine` and the first batch size, ms.",
            "ms", 3, "max", lambda row: row.median, short="median",
        ),
        _timed(
            "latency_p99_ms", "p99 latency",
            "99th percentile of the latency at boundary `engine` and the first batch size, ms.", "ms", 3, "max",
            lambda row: row.p99, short="p99", samples=P99_SAMPLES,
        ),
        _timed(
            "throughput", "throughput", "Images per second at boundary `engine` and the first batch size.",
            "img/s", 0, "min", lambda row: row.throughput,
        ),
        Metric(
            "deadline_miss_percent",
            "Share of images that were not done when the next one arrived, at `benchmark.rate_fps`, percent; boundary "
            "`image_to_class` if that is measured, else `engine`.",
            "late images", "%", 2, ("max",), _late, moved_by_load=True,
            unmeasured=lambda b: (
                ("needs images at a fixed rate", "set benchmark.rate_fps") if b.rate_fps is None else None
            ),
        ),
        Metric(
            "energy_mj_per_image", "Energy per image above that of the idle machine, mJ.",
            "energy", "mJ/image", 2, ("max",), lambda e: e.energy.mj_per_image if e.energy else None,
            unmeasured=lambda b: (
                ("contradicts benchmark.energy_s = 0", "remove one") if b.energy_s == 0 else None
            ),
        ),
        Metric(
            "engine_mb", "Size of the engine file, MB (10^6 bytes).",
            "engine size", "MB", 3, ("max",), lambda e: e.engine_mb, short="size",
        ),
    )
}  # fmt: skip
"""By name, in the order in which reports show them."""
