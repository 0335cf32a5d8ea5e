"""Opened images of more than 8 bits a value: what they are, what range they have, and they as 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image as PILImage

from figkd.data.levels import Kind, Levels, range_of, scaled

# Enough values to know a range by, from anywhere in the image.
_LOOKED_AT = 256


def deep_kind(stored: PILImage.Image) -> Kind | None:
    """How an opened image stores more than 8 bits a value; None if it does not."""
    if stored.mode == "F":
        return "float"
    if stored.mode == "I" or stored.mode.startswith("I;16"):
        return "integer"
    return None


def seen_range(stored: PILImage.Image) -> tuple[float, float] | None:
    """The range of an opened image's values (see `figkd.data.levels.range_of`), by up to 65,536 of them.

    Args:
        stored: opened, of more than 8 bits a value.

    Returns:
        Smallest and largest; None if a value is not finite.
    """
    size = (min(stored.width, _LOOKED_AT), min(stored.height, _LOOKED_AT))
    return range_of(np.asarray(stored.resize(size, PILImage.Resampling.NEAREST)))


def grey_as_eight_bits(image: PILImage.Image, levels: Levels) -> tuple[PILImage.Image, int]:
    """A single channel of more than 8 bits in mode L, a transparent value white; and the values clipped."""
    transparent = image.info.get("transparency")
    grey, clipped = scaled(
        lambda top, end: np.asarray(image.crop((0, top, image.width, end))),
        image.size,
        levels,
        transparent if isinstance(transparent, int) else None,
    )
    return PILImage.fromarray(grey), clipped
