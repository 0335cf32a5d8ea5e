"""Small pictures inside the page: a few test images as the network sees them, bounded in bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.results.evidence import Mistake

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 112
"""Longest side of a picture, pixels; a larger image is scaled down."""
_LOSSLESS = 48


def pictures(data: Path, found: Sequence[Mistake], image_size: int) -> Mapping[int, str]:
    """The images of mistakes as `data:` addresses, by their number in the test set.

    Args:
        data: artifact of the stage `data`.
        found: which images.
        image_size: side of what the network takes, pixels; the rest of a stored image is cropped.
    """
    import numpy as np

    from figkd.data import open_split
    from figkd.data.crop import centre_crop

    if not found:
        return {}
    numbers = [mistake.index for mistake in found]
    stored = np.asarray(open_split(data, "test").images[np.array(numbers)])
    return dict(zip(numbers, map(data_address, centre_crop(stored, image_size)), strict=True))


def data_address(image: npt.NDArray[Any], side: int = SIDE) -> str:
    """An image, uint8 [H, W, 3], as an address that holds it: a PNG where it is small, else a JPEG of `side` pixels."""
    from PIL import Image

    picture = Image.fromarray(image)
    kind = "png" if max(picture.size) <= _LOSSLESS else "jpeg"
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 85} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
