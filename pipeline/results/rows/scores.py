"""`accuracy.json` of the stages `precision`, `qad` and `validate`: accuracy on the test set, by file or engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.files import write_json
from pipeline.results.rows.row import Row, read_mapping

_SCORES = "accuracy.json"
ENGINE = "engine"
"""The source of a score whose logits are the engine's own."""


class ClassScore(Row):
    """A class and its accuracy."""

    name: str
    n: int
    accuracy: float


class Mixup(Row):
    """A class that was taken for another, how often."""

    true: str
    predicted: str
    count: int


class Score(Row):
    """Accuracy on a data set, percent (`export.accuracy`)."""

    source: str = ""
    """`engine`, or the ONNX file that stands for it; empty for scores of the files themselves."""
    n: int
    top1: float
    top5: float | None
    mean_per_class: float
    worst_classes: tuple[ClassScore, ...]
    agreement: float | None
    finite: bool
    confusions: tuple[Mixup, ...]
    identical_rows: bool | None = None
    """One image several times gets the same logits; None where that was not tried."""


def read_scores(folder: Path) -> dict[str, Score]:
    """The scores in an artifact, by file or engine."""
    return read_mapping(folder / _SCORES, Score)


def write_scores(folder: Path, scores: Mapping[str, Score]) -> None:
    """Write scores into an artifact; what is not known of one is left out."""
    rows = {name: score.model_dump(mode="json", exclude_defaults=True) for name, score in scores.items()}
    write_json(folder / _SCORES, rows)
