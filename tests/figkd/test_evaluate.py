"""Predictions and accuracy figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from figkd.errors import FigkdError
from figkd.evaluate import centre_crop, predict, topk_accuracy


class _MeanColour(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return images.float().mean((1, 2))


def test_predict_crops_batches_and_keeps_the_mode() -> None:
    """Protects the evaluation view, the last small batch, and the model's training mode."""
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    model = _MeanColour()
    seen: list[tuple[int, int]] = []
    logits = predict(
        model,
        images,
        image_size=4,
        batch_size=3,
        progress=lambda done, total, note: seen.append((done, total)),
    )
    np.testing.assert_allclose(logits, images[:, 2:6, 2:6].mean((1, 2)), rtol=1e-5)
    assert logits.dtype == np.float32
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert model.training


def test_predict_takes_the_rows_asked_for() -> None:
    """Protects the order and the batches of chosen images."""
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    rows = np.array([5, 0, 3])
    seen: list[tuple[int, int]] = []
    logits = predict(
        _MeanColour(), images, image_size=4, rows=rows, batch_size=2,
        progress=lambda done, total, note: seen.append((done, total)),
    )  # fmt: skip
    np.testing.assert_allclose(logits, images[rows].mean((1, 2)), rtol=1e-5)
    assert seen == [(2, 3), (3, 3)]


def test_wrong_images_are_refused() -> None:
    """Protects: shapes that do not fit raise."""
    with pytest.raises(FigkdError, match="crop of 9"):
        centre_crop(np.zeros((1, 8, 8, 3), np.uint8), 9)
    with pytest.raises(FigkdError, match="no images"):
        predict(_MeanColour(), np.zeros((0, 8, 8, 3), np.uint8), image_size=8)


def test_topk() -> None:
    """Protects the counting: percent, k above the class count, ties and NaN do not help."""
    logits = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    labels = [0, 1, 2, 1]
    assert topk_accuracy(logits, labels) == 25.0
    assert topk_accuracy(logits, labels, 2) == 75.0
    assert topk_accuracy(logits, labels, 9) == 100.0
    assert topk_accuracy(np.zeros((9, 3)), np.arange(9) % 3) == pytest.approx(100 / 3)
    assert topk_accuracy(np.full((2, 3), np.nan), [0, 1], 3) == 0.0
    with pytest.raises(FigkdError, match="do not match"):
        topk_accuracy(logits, [0, 1])
