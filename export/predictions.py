"""What classifiers answered, image by image: class and confidence, kept where all logits would be too much."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.accuracy import confidence, predicted
from export.runtime.files import write_bytes

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class Predictions:
    """Answers to N images."""

    classes: Array
    """int32 [N]; -1 where a logit was not finite."""
    confidence: Array
    """float32 [N], softmax of the answer, 0 to 1, to four digits."""

    @classmethod
    def of(cls, logits: Array) -> Predictions:
        """From logits [N, C]."""
        return cls(predicted(logits).astype(np.int32), np.round(confidence(logits), 4))


def save_predictions(path: Path, predictions: Mapping[str, Predictions]) -> None:
    """Write one .npz of the classifiers' answers to the same images, by name; equal answers give equal bytes."""
    found = list(predictions.values())
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(list(predictions), np.str_),
        classes=np.array([each.classes for each in found], np.int32),
        confidence=np.array([each.confidence for each in found], np.float32),
    )
    write_bytes(path, buffer.getvalue())


def read_predictions(path: Path) -> dict[str, Predictions]:
    """What `save_predictions` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        rows = zip(arrays["names"], arrays["classes"], arrays["confidence"], strict=True)
        return {str(name): Predictions(classes, shares) for name, classes, shares in rows}
