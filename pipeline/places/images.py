"""Prepared images as the exported graph takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def graph_inputs(
    stored: npt.NDArray[np.uint8], *, image_size: int, layout: str, student: Path | None
) -> npt.NDArray[Any]:
    """The evaluation view of prepared images, in the exported graph's input layout.

    Args:
        stored: uint8 [N, S, S, 3].
        image_size: side of the centre crop, pixels.
        layout: `uint8_nhwc`: [N, H, W, 3] as it is. `float32_nchw`: [N, 3, H, W], normalised.
        student: the student's checkpoint, which holds the normalisation; not read for `uint8_nhwc`.
    """
    from figkd.evaluate import centre_crop

    cropped = centre_crop(stored, image_size)
    if layout == "uint8_nhwc":
        return cropped
    import numpy as np

    from figkd import checkpoint

    assert student is not None  # float input is only asked for where there is a student
    state = checkpoint.load(student).state
    scaled = (cropped.astype(np.float32) / 255 - state["mean"].numpy()) / state["std"].numpy()
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
