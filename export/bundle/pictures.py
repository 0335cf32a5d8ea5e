"""Golden images as files: PNG to the pixel, JPEG as a camera writes it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

_ORIENTATION = 0x0112


def png_bytes(pixels: Array) -> bytes:
    """Pixels uint8 [H, W, 3] as a PNG file; not compressed, so that its bytes do not depend on a library's version."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def photograph(pixels: Array, *, orientation: int) -> bytes:
    """A JPEG file of four times the side, wider than high, that EXIF's orientation says to turn.

    So its way through a decoder is that of a camera's photograph: reduced decoding, turning, cropping, resizing.

    Args:
        pixels: uint8 [S, S, 3].
        orientation: EXIF's.
    """
    from PIL import Image

    large = np.repeat(np.repeat(pixels, 4, axis=0), 4, axis=1)
    side = len(large) // 4
    wide = np.concatenate([large[:, :side], large, large[:, -side:]], axis=1)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()
