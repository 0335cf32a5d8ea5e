"""From an encoded image to what the graph takes, on the device: the same steps as `export.image` on the host.

`export.image` is the original; golden images tell whether this device's Pillow does the same.
"""

from __future__ import annotations

import io
from typing import Any

from .batches import numpy
from .errors import JobError


def pillow() -> Any:
    """The module `PIL.Image`; None where there is none."""
    try:
        from PIL import Image  # type: ignore[import-not-found,unused-ignore]
    except Exception:
        return None
    return Image


def decode(encoded: bytes, store_size: int) -> Any:
    """An RGB image from the bytes of a JPEG, decoded at the smallest built-in scale that keeps twice `store_size`."""
    image = pillow().open(io.BytesIO(encoded))
    if image.format == "JPEG":
        image.draft("RGB", (2 * store_size, 2 * store_size))
    return image.convert("RGB")


def view(image: Any, store_size: int, image_size: int) -> Any:
    """The centre square, resized to `store_size` (bicubic) and cropped to `image_size`: uint8 [H, W, 3]."""
    module = pillow()
    bicubic = getattr(module, "Resampling", module).BICUBIC
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    square = image.resize((store_size, store_size), bicubic, box=(left, top, left + short, top + short))
    margin = (store_size - image_size) // 2
    return numpy().asarray(square.crop((margin, margin, margin + image_size, margin + image_size)), "uint8")


def views(encoded: list[bytes], store_size: int, image_size: int) -> Any:
    """Several of them, uint8 [N, H, W, 3].

    Raises:
        JobError: one cannot be decoded.
    """
    try:
        return numpy().stack([view(decode(data, store_size), store_size, image_size) for data in encoded])
    except Exception as error:
        raise JobError(f"an image cannot be decoded on the device: {error}") from error
