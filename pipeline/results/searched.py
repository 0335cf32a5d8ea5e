"""`search.json`: what a search tried, what came of it, and the Pareto front. Data, no sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from pipeline.core.files import write_text
from pipeline.results.evidence import Part
from pipeline.results.rows.row import read_document
from pipeline.results.rows.trials import State

SEARCH_FILE = "search.json"


class Value(Part):
    """A number and its 95 % interval, null where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


class Sought(Part):
    """An objective."""

    name: str
    metric: str
    target: str
    """Empty for validation images."""
    direction: Literal["min", "max"]
    limit: float | None = None
    """The budget on it, if there is one for all precisions."""


class Missed(Part):
    """A budget that a point misses."""

    metric: str
    target: str
    side: Literal["min", "max", "max_drop"]
    limit: float
    value: float


class TrainedEngine(Part):
    """A trained engine of a point on the front, on one target."""

    target: str
    test_top1: float | None
    """Percent of the test images."""
    test_low: float | None
    """Lower end of its 95 % interval (Wilson score)."""
    test_high: float | None
    n: int
    """Test images."""
    latency_p50_ms: Value | None
    """Boundary `engine`, first batch size."""
    engine_mb: float | None
    misses: list[Missed]


class Confirmed(Part):
    """A point on the front after all stages. Test numbers, which chose nothing."""

    config: str
    """Name of the deployment."""
    engines: list[TrainedEngine] = []
    failure: str = ""


class Point(Part):
    """A trial in one precision."""

    id: str
    """`t0003/int8`."""
    trial: int
    precision: str
    values: dict[str, Value]
    """By objective. Accuracy is of the precision's ONNX file on validation images, the rest of the untrained engine."""
    misses: list[Missed] = []
    """Budgets, held against validation accuracy and the untrained engine."""
    front: int | None = None
    """Its number on the front, from 1; null if it is not on it."""
    confirmed: Confirmed | None = None


class SearchedTrial(Part):
    """A trial."""

    number: int
    settings: dict[str, JsonValue]
    state: State
    reason: str
    fix: str
    epochs: int
    """Epochs of student training, over all seeds."""
    val_top1: list[float]
    """After each epoch, of the first seed."""
    seconds: float
    failures: list[str]


class Effort(Part):
    """What the search cost, against training everything."""

    epochs: int
    """Of student training."""
    epochs_of_everything: int
    """If every trial had been trained in full, from every seed; of those that failed what they came to."""
    training_seconds: float
    """Sum over the trials, without what they share."""
    shared_seconds: float
    """Data, teachers and logits."""


class SearchResult(Part):
    """The document."""

    search_version: Literal[1] = 1
    name: str
    base: str
    """Name of the config that was varied."""
    created: str
    sampler: str
    objectives: list[Sought]
    space: dict[str, str]
    """By key: the values or the range, in short."""
    seeds: int
    rungs: list[int]
    validation_images: int
    trials: list[SearchedTrial]
    points: list[Point]
    effort: Effort
    cpu: str = ""
    gpu: str = ""

    @property
    def front(self) -> list[Point]:
        """The points on the front by their number."""
        return sorted((p for p in self.points if p.front is not None), key=lambda p: p.front or 0)


def write_searched(path: Path, result: SearchResult) -> None:
    """Write the document, whole or not at all."""
    write_text(path, result.model_dump_json(indent=1) + "\n")


def read_searched(path: Path) -> SearchResult:
    """Read what `write_searched` wrote.

    Raises:
        ConfigError: there is no such file, or it is none of these.
    """
    return read_document(path, SearchResult, "figkd-pipeline search SEARCH")
