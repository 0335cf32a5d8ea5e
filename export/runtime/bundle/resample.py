"""Resizing in numpy, to the bit what Pillow does: bicubic, antialiased, in whole numbers.

After Pillow's `src/libImaging/Resample.c` (MIT-CMU): weights of the filter in double precision, rounded to 22 bits;
first across, then down, each rounded to 8 bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..arrays import Array

_BITS = 22
_SUPPORT = 2.0
_A = -0.5
_TOGETHER = 16
"""Outputs whose sums are one matrix product: their inputs overlap."""


def resize(pixels: Array, side: int, box: tuple[float, float, float, float]) -> Array:
    """Part of an image, resized to a square.

    Args:
        pixels: uint8 [H, W, C].
        side: of the result, pixels.
        box: the part: left, top, right, bottom, inside of the image.

    Returns:
        uint8 [side, side, C], what `PIL.Image.resize((side, side), BICUBIC, box)` gives.
    """
    left, top, right, bottom = box
    height, width, _ = pixels.shape
    across = None if (width, left, right) == (side, 0, side) else _weights(width, left, right, side)
    down = None if (height, top, bottom) == (side, 0, side) else _weights(height, top, bottom, side)
    if down is not None and across is not None:  # rows that nothing is made of
        first, last = int(down[0][0]), int(down[0][-1]) + down[1].shape[1]
        pixels, down = pixels[first:last], (down[0] - first, down[1])
    turned = pixels.transpose(1, 0, 2) if across is None else _reduce(pixels, *across)
    return turned.transpose(1, 0, 2) if down is None else _reduce(turned, *down)


def _weights(size: int, start: float, end: float, out: int) -> tuple[Array, Array]:
    """Of each output the first input, int64 [out], and the weights of the inputs from there on, float64 [out, K].

    Weights are whole numbers, of which 2^22 make one; those beyond an output's own are 0.
    """
    scale = float(np.float32(end) - np.float32(start)) / out
    stretch = max(scale, 1.0)
    support = _SUPPORT * stretch
    centre = float(np.float32(start)) + (np.arange(out) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + support + 0.5).astype(np.int64), size) - first
    taps = np.arange(math.ceil(support) * 2 + 1)
    raw = _bicubic((taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch))
    raw = np.where(taps < count[:, None], raw, 0.0)
    total = np.zeros(out)
    for tap in taps:  # in this order, as a sum of doubles depends on it
        total = total + raw[:, tap]
    share = raw / np.where(total == 0, 1.0, total)[:, None] * (1 << _BITS)
    whole = np.trunc(np.where(share < 0, share - 0.5, share + 0.5))
    used = int(count.max())
    return first, whole[:, :used]


def _bicubic(x: Array) -> Array:
    x = np.abs(x)
    near = ((_A + 2.0) * x - (_A + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _reduce(pixels: Array, first: Array, weights: Array) -> Array:
    """uint8 [A, N, C] to uint8 [len(weights), A, C]: weighted sums over the second axis.

    Sums of products of whole numbers below 2^53 are exact in double precision, in whatever order.
    """
    others, size, channels = pixels.shape
    out, taps = weights.shape
    result = np.empty((out, others, channels), np.uint8)
    for begin in range(0, out, _TOGETHER):
        end = min(begin + _TOGETHER, out)
        low, high = int(first[begin]), min(int(first[end - 1]) + taps, size)
        matrix = np.zeros((end - begin, high - low))
        for row in range(begin, end):
            at = int(first[row]) - low
            part = matrix[row - begin, at : at + taps]
            part[:] = weights[row, : len(part)]
        part = pixels[:, low:high].transpose(1, 0, 2).reshape(high - low, others * channels)
        sums = matrix @ part.astype(np.float64)
        rounded = np.floor((sums + (1 << (_BITS - 1))) / (1 << _BITS))
        result[begin:end] = np.clip(rounded, 0, 255).reshape(end - begin, others, channels)
    return result
