"""Prepared images as the exported graph takes them, here and on a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

UINT8_NHWC = "uint8_nhwc"
"""The layout of graphs that normalise inside."""


@dataclass(frozen=True)
class Normalisation:
    """How float images are made of uint8 ones, by channel: (x / 255 - mean) / std."""

    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Images:
    """Images of a split, and how the graph takes them.

    Attributes:
        stored: uint8 [N, S, S, 3], may be memory-mapped.
        image_size: side of the centre crop, pixels.
        layout: `uint8_nhwc`: [N, H, W, 3] as it is. `float32_nchw`: [N, 3, H, W], normalised.
        student: the student's checkpoint, which holds the normalisation; not read for `uint8_nhwc`.
    """

    stored: npt.NDArray[np.uint8]
    image_size: int
    layout: str
    student: Path | None

    def cropped(self) -> npt.NDArray[np.uint8]:
        """The evaluation view, uint8 [N, H, W, 3]."""
        from figkd.data.crop import centre_crop

        return centre_crop(self.stored, self.image_size)

    def normalisation(self) -> Normalisation | None:
        """How the graph's input is made of the evaluation view; None where it takes that as it is."""
        if self.layout == UINT8_NHWC:
            return None
        from figkd import checkpoint

        assert self.student is not None  # float input is only asked for where there is a student
        state = checkpoint.load(self.student).state
        mean, std = (state[key].numpy().reshape(-1).tolist() for key in ("mean", "std"))
        return Normalisation(mean, std)

    def inputs(self) -> npt.NDArray[Any]:
        """The evaluation view in the graph's layout."""
        from export.runtime.normalise import normalised

        cropped, wanted = self.cropped(), self.normalisation()
        return cropped if wanted is None else normalised(cropped, wanted.mean, wanted.std)
