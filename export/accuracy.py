"""What an engine's logits are worth: accuracy overall, by class, and against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.engines.protocol import Engine
from export.errors import ExportError

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

_ROWS = 1024


def predicted(logits: Array) -> Array:
    """The class that each row of logits [N, C] answers, int64 [N]; -1 where a logit is not finite."""
    logits = np.asarray(logits)
    finite = np.asarray(np.isfinite(logits).all(axis=1))
    return np.where(finite, np.where(finite[:, None], logits, 0).argmax(axis=1), -1)


def confidence(logits: Array) -> Array:
    """Softmax of each row's answer, float32 [N], 0 to 1; 0 where a logit is not finite."""
    found = np.zeros(len(logits), np.float32)
    for i in range(0, len(logits), _ROWS):  # in parts: many classes would take several copies of everything
        part = np.asarray(logits[i : i + _ROWS], np.float64)
        finite = np.asarray(np.isfinite(part).all(axis=1))
        part = np.where(finite[:, None], part, 0.0)
        shares = 1 / np.exp(part - part.max(axis=1, keepdims=True)).sum(axis=1)
        found[i : i + _ROWS] = np.where(finite, shares, 0.0)
    return found


@dataclass(frozen=True)
class ClassAccuracy:
    """A class, its images and their accuracy in percent."""

    name: str
    n: int
    accuracy: float


@dataclass(frozen=True)
class Confused:
    """A class that was taken for another, and how often."""

    true: str
    predicted: str
    count: int


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of answers to a data set, percent. A row with NaN or infinity counts as wrong everywhere.

    Attributes:
        n: images.
        top1: share of images whose best class is right.
        top5: whose five best hold the right one; None where there are at most five classes.
        mean_per_class: over classes that occur.
        worst_classes: up to five, worst first.
        agreement: images with the reference's top-1 class; None without reference.
        finite: no logit is NaN or infinity.
        confusions: up to ten, most frequent first.
    """

    n: int
    top1: float
    top5: float | None
    mean_per_class: float
    worst_classes: list[ClassAccuracy]
    agreement: float | None
    finite: bool
    confusions: list[Confused]


def accuracy(
    logits: Array, labels: Array, class_names: Sequence[str], reference_logits: Array | None = None
) -> Accuracy:
    """Accuracy of one engine on one data set.

    Args:
        logits: [N, C] floating point.
        labels: [N] integers below C.
        class_names: C names.
        reference_logits: [N, C] of the module that the engine came from.

    Raises:
        ExportError: shapes that do not fit, no images, or a label outside 0..C-1.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != (len(logits),) or len(logits) == 0:
        raise ExportError(f"logits {list(logits.shape)} and labels {list(labels.shape)} do not fit together")
    count, classes = logits.shape
    if len(class_names) != classes:
        raise ExportError(f"{len(class_names)} class names for {classes} classes")
    if labels.min() < 0 or labels.max() >= classes:
        raise ExportError(
            f"labels reach from {labels.min()} to {labels.max()}, the classes from 0 to {classes - 1}"
        )
    finite_rows = np.isfinite(logits).all(axis=1)
    answer = predicted(logits)
    correct = answer == labels
    top5: float | None = None
    if classes > 5:
        best = np.argsort(-np.where(finite_rows[:, None], logits, 0), axis=1, kind="stable")[:, :5]
        top5 = _percent((best == labels[:, None]).any(axis=1) & finite_rows)
    totals = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[correct], minlength=classes)
    present = np.nonzero(totals)[0]
    per_class = 100.0 * hits[present] / totals[present]
    order = np.lexsort((present, per_class))[:5]
    agreement: float | None = None
    if reference_logits is not None:
        reference = np.asarray(reference_logits)
        if reference.shape != logits.shape:
            raise ExportError(f"reference logits {list(reference.shape)} do not fit {list(logits.shape)}")
        agreement = _percent(answer == reference.argmax(axis=1))
    wrong = ~correct & finite_rows
    pairs, counts = np.unique(labels[wrong] * classes + answer[wrong], return_counts=True)
    frequent = np.lexsort((pairs, -counts))[:10]
    return Accuracy(
        n=count,
        top1=_percent(correct),
        top5=top5,
        mean_per_class=float(per_class.mean()),
        worst_classes=[
            ClassAccuracy(class_names[present[i]], int(totals[present[i]]), float(per_class[i]))
            for i in order
        ],
        agreement=agreement,
        finite=bool(finite_rows.all()),
        confusions=[
            Confused(
                class_names[int(pairs[i]) // classes], class_names[int(pairs[i]) % classes], int(counts[i])
            )
            for i in frequent
        ],
    )


def identical_rows(engine: Engine, image: Array, batch: int, *, tolerance: float = 1e-3) -> bool:
    """Whether a batch of `batch` copies of one image gives equal rows.

    Args:
        engine: accepts this batch size.
        image: one image, without the batch dimension.
        batch: number of copies.
        tolerance: largest allowed difference, times the larger of 1 and the largest |logit|.

    Libraries have been caught returning four different rows for four equal images; nothing else detects it as
    cheaply.
    """
    return rows_agree(engine.infer(np.repeat(np.asarray(image)[None], batch, axis=0)), tolerance=tolerance)


def rows_agree(logits: Array, *, tolerance: float = 1e-3) -> bool:
    """Whether the rows [N, C] that an engine gave for one image are equal; see `identical_rows`."""
    if not np.isfinite(logits).all():
        return False
    spread = float((logits.max(axis=0) - logits.min(axis=0)).max())
    return spread <= tolerance * max(1.0, float(np.abs(logits).max()))


def _percent(mask: Array) -> float:
    return float(100.0 * mask.mean())
