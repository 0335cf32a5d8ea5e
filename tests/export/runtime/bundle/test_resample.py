"""Resizing in numpy gives Pillow's pixels to the bit, for any shape, whichever pass Pillow of a version takes first."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from export.runtime.bundle.resample import resize
from figkd.data.decode import decode_square

BICUBIC = Image.Resampling.BICUBIC


@pytest.mark.parametrize("seed", range(60))
def test_it_is_pillows_resize_and_trainings(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = (int(n) for n in generator.integers(1, 260, 2))
    side = width if seed % 6 == 0 else int(generator.integers(1, 150))
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if seed % 4 == 0:  # overshoot is clipped
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
    short = min(height, width)
    left, top = (width - short) / 2, (height - short) / 2
    across = Image.fromarray(pixels).resize((side, height), BICUBIC, box=(left, 0, left + short, height))
    square = across.resize((side, side), BICUBIC, box=(0, top, side, top + short))
    found = resize(pixels, side, (left, top, left + short, top + short))
    np.testing.assert_array_equal(found, np.asarray(square))
    np.testing.assert_array_equal(found, decode_square(pixels, side))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_tiny_images(size: tuple[int, int]) -> None:
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    np.testing.assert_array_equal(resize(pixels, 5, _centre(size)), decode_square(pixels, 5))


def _centre(size: tuple[int, int]) -> tuple[float, float, float, float]:
    short = min(size)
    left, top = (size[1] - short) / 2, (size[0] - short) / 2
    return left, top, left + short, top + short
