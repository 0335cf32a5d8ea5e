"""The input of graphs that do not normalise inside."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from .arrays import Array


def normalised(images: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """uint8 [N, H, W, 3] as float32 [N, 3, H, W], (x / 255 - mean) / std.

    Args:
        images: RGB.
        mean: per channel, of values from 0 to 1.
        std: likewise.
    """
    scaled = images.astype(np.float32) / np.float32(255) - np.asarray(mean, np.float32)
    values = scaled / np.asarray(std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
