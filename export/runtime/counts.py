"""How often a model gave which answer, and how sure it was: under 1 kB of numbers, and nothing of any image."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Tuple

import numpy as np

if TYPE_CHECKING:
    from .arrays import Array

BINS = 32
"""Of the probability of the likeliest class, equally wide from 0 to 1."""
GROUPS = 64
"""Of classes at most: class i is in group i modulo their number."""
_MOST = 1 << 53


@dataclass(frozen=True)
class OutputCounts:
    """Counts of answers; both sum up to the number of images."""

    confidence: Tuple[int, ...]
    """Images by bin of the probability of their likeliest class, `BINS` numbers."""
    classes: Tuple[int, ...]
    """Images by group of their likeliest class, at most `GROUPS` numbers."""

    @property
    def images(self) -> int:
        """How many were counted."""
        return sum(self.confidence)

    def plus(self, other: OutputCounts) -> OutputCounts:
        """Both together.

        Raises:
            ValueError: they are of models with other numbers of classes.
        """
        if len(self.classes) != len(other.classes):
            raise ValueError("%d and %d groups of classes" % (len(self.classes), len(other.classes)))
        return OutputCounts(
            tuple(a + b for a, b in zip(self.confidence, other.confidence)),
            tuple(a + b for a, b in zip(self.classes, other.classes)),
        )

    def to_json(self) -> Dict[str, Any]:
        """As plain values."""
        return {"confidence": list(self.confidence), "classes": list(self.classes)}


def nothing(classes: int) -> OutputCounts:
    """No image yet, of a model with so many classes."""
    return OutputCounts((0,) * BINS, (0,) * min(classes, GROUPS))


def counts_of(logits: Array) -> OutputCounts:
    """Counts of the answers logits [N, C], which are finite."""
    groups = min(logits.shape[1], GROUPS)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    surest = 1 / np.exp(shifted).sum(axis=1)
    bins = np.minimum((surest * BINS).astype(np.int64), BINS - 1)
    best = logits.argmax(axis=1) % groups
    return OutputCounts(
        tuple(np.bincount(bins, minlength=BINS).tolist()), tuple(np.bincount(best, minlength=groups).tolist())
    )


def counts_from(found: Any) -> OutputCounts:
    """The counts in plain values from elsewhere.

    Raises:
        ValueError: they are none.
    """
    try:
        made = OutputCounts(tuple(found["confidence"]), tuple(found["classes"]))
    except (KeyError, TypeError):
        raise ValueError("no counts of outputs") from None
    plain = all(type(one) is int and 0 <= one < _MOST for one in (*made.confidence, *made.classes))
    if not plain or len(made.confidence) != BINS or not 1 <= len(made.classes) <= GROUPS:
        raise ValueError("no counts of outputs")
    if made.images != sum(made.classes):
        raise ValueError("counts of outputs that contradict each other")
    return made


class Tally:
    """Counts that several threads add to."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._lock = threading.Lock()
        self._counts = nothing(classes)

    def add(self, logits: Array) -> None:
        """Count answers, logits [N, C]."""
        found = counts_of(logits)
        with self._lock:
            self._counts = self._counts.plus(found)

    def take(self) -> OutputCounts:
        """What was counted since the last time."""
        with self._lock:
            found, self._counts = self._counts, nothing(self._classes)
        return found
