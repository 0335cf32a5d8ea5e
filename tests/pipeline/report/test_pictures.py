"""Pictures in the page: as the network sees them, and bounded."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.report.pictures import SIDE, data_address


@pytest.mark.parametrize("side", [8, 32, 48, 49, 224, 600])
def test_small_images_are_exact_and_large_ones_small(side: int) -> None:
    """A 32-pixel image keeps every pixel; noise of any size stays below 20 kB."""
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    head, _, body = data_address(image).partition(",")
    content = base64.b64decode(body)
    shown = np.asarray(Image.open(io.BytesIO(content)))
    assert len(content) < 20_000
    if side <= 48:
        assert head == "data:image/png;base64" and (shown == image).all()
    else:
        assert head == "data:image/jpeg;base64" and max(shown.shape[:2]) == min(side, SIDE)
