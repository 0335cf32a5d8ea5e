"""The evaluation view: the centre of a stored image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from figkd.errors import FigkdError

Images = npt.NDArray[np.uint8]


def centre_crop(images: Images, image_size: int) -> Images:
    """View of the central image_size x image_size pixels of uint8 [N, S, S, 3].

    Raises:
        FigkdError: images of another shape, or smaller ones.
    """
    side = images.shape[1]
    if images.ndim != 4 or images.shape[2:] != (side, 3) or side < image_size:
        raise FigkdError(f"images of shape {images.shape} for a crop of {image_size} pixels")
    start = (side - image_size) // 2
    return images[:, start : start + image_size, start : start + image_size]
