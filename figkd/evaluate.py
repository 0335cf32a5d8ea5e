"""Predictions over a data set, and accuracy figures in percent."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from figkd.data.crop import Images
from figkd.data.crop import centre_crop as centre_crop
from figkd.errors import FigkdError
from figkd.progress import Progress, no_progress
from figkd.replicas import predictor

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
BATCH = 256
"""Images per forward pass where nothing is trained."""


def predict(
    model: nn.Module,
    images: Images,
    *,
    image_size: int,
    rows: npt.NDArray[np.int64] | None = None,
    batch_size: int = BATCH,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Logits:
    """Logits of the evaluation view (centre crop) of every image.

    The model is moved to `device`, run in eval mode, and left in the mode that it had.

    Args:
        model: takes uint8 [B, H, W, 3], returns [B, C].
        images: uint8 [N, S, S, 3], S >= image_size; may be memory-mapped.
        image_size: side of the crop, pixels.
        rows: int64 [M], which images, in the order of the logits; all if None.
        batch_size: images per forward pass.
        device: "cpu" or "cuda".
        progress: called after every batch with images done.

    Returns:
        float32 [N, C], or [M, C].

    Raises:
        FigkdError: no images, or images smaller than the crop.
    """
    crops = centre_crop(images, image_size)
    count = len(crops) if rows is None else len(rows)
    if not count:
        raise FigkdError("there are no images to predict")
    training = model.training
    model.to(device).eval()
    parts = []
    try:
        with torch.inference_mode(), predictor(model, device) as logits:
            for start in range(0, count, batch_size):
                part = slice(start, start + batch_size)
                batch = torch.from_numpy(np.array(crops[part if rows is None else rows[part]]))
                parts.append(logits(batch.to(device)).cpu().numpy())
                progress(min(start + batch_size, count), count, "")
    finally:
        model.train(training)
    return cast(Logits, np.concatenate(parts))


def topk_accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike, k: int = 1) -> float:
    """Percent of samples whose label is among the k largest logits; k above C counts as C.

    A tie is counted against the sample unless its label comes first, so a constant output scores chance.
    """
    return float(topk_hits(logits, labels, k).mean() * 100)


def topk_hits(logits: npt.ArrayLike, labels: npt.ArrayLike, k: int = 1) -> npt.NDArray[np.bool_]:
    """Whether each sample's label is among its k largest logits: bool [N]; ties as in `topk_accuracy`."""
    scores, truth = np.asarray(logits), np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise FigkdError(f"logits {scores.shape} and labels {truth.shape} do not match", "[N, C] and [N]")
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < truth[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    # NaN compares false with everything and would otherwise count as a hit.
    return cast("npt.NDArray[np.bool_]", (rank < k) & np.isfinite(own[:, 0]))
