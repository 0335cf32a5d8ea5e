"""Test images for a device: what the graph is fed with, cut into packed files that are sent once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PART_BYTES = 64 << 20
# Left free on the device, for logits, engines and everyone else.
SPARE_BYTES = 256 << 20


@dataclass(frozen=True)
class Part:
    """One file of the store: `count` uint8 images [H, W, 3], one after the other."""

    path: Path
    count: int


def parts(images: npt.NDArray[np.uint8], folder: Path, limit: int = PART_BYTES) -> Iterator[Part]:
    """Write the images part by part; each file is removed when the next is asked for.

    The bytes depend on the images and the limit alone, so a device that has a part already is sent nothing.

    Args:
        images: uint8 [N, H, W, 3], may be memory-mapped.
        folder: where to write.
        limit: bytes of a part; at least one image is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = max(1, limit // int(images[0].nbytes))
    for number, at in enumerate(range(0, len(images), step)):
        block = images[at : at + step]
        path = folder / f"images-{number}.u8"
        block.tofile(path)
        try:
            yield Part(path, len(block))
        finally:
            path.unlink(missing_ok=True)


def fits(images: npt.NDArray[np.uint8], free: int) -> bool:
    """Whether a disk with so many free bytes holds all images at once."""
    return int(images.nbytes) + SPARE_BYTES <= free
