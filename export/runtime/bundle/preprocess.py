"""From an image to what an engine takes: one description, one implementation.

The description lies in `preprocess.json`, in the metadata of the ONNX file and in the engine's sidecar. The steps:
decode (`decode`), the centre square resized to `side` (bicubic, antialiased), its centre of `size` pixels, then as
`layout` and `dtype` say: NHWC uint8 as it is, or NCHW float32 with (x / 255 - mean) / std.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

from ..normalise import normalised
from .decode import LEVELS, MOST_PIXELS, decode
from .errors import BundleRefused, shown
from .resample import resize

if TYPE_CHECKING:
    from ..arrays import Array

_MOST_SIDE = 1 << 14
_FILE = "preprocess.json"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input."""

    side: int
    """Of the square that the centre of the image is resized to, pixels."""
    size: int
    """Of the centre crop that the engine sees, pixels; at most `side`."""
    dtype: str = "uint8"
    """`uint8` ([N, H, W, 3], normalised inside of the engine), or `float32` ([N, 3, H, W], normalised here)."""
    mean: tuple[float, ...] = ()
    """Per channel, of values of 0 to 1; for `float32`."""
    std: tuple[float, ...] = ()
    levels: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(LEVELS))
    """Which values of more than 8 bits become black and white, by kind: `integer`, `float`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, without the batch."""
        return (self.size, self.size, 3) if self.dtype == "uint8" else (3, self.size, self.size)

    def view(self, encoded: bytes, most_pixels: int = MOST_PIXELS) -> Array:
        """What the engine sees of an image file: uint8 [size, size, 3], RGB. `most_pixels`: as it is decoded.

        Raises:
            ImageRefused: as `decode`.
            CannotRun: Pillow is missing.
        """
        return self.view_of(decode(encoded, self.side, self.levels, most_pixels))

    def view_of(self, pixels: Array) -> Array:
        """What the engine sees of upright RGB pixels uint8 [H, W, 3]: uint8 [size, size, 3]."""
        height, width = pixels.shape[:2]
        short = min(height, width)
        left, top = (width - short) / 2, (height - short) / 2
        square = resize(pixels, self.side, (left, top, left + short, top + short))
        start = (self.side - self.size) // 2
        return np.ascontiguousarray(square[start : start + self.size, start : start + self.size])

    def batch(self, views: Sequence[Array]) -> Array:
        """Views uint8 [size, size, 3] as one input: uint8 [N, size, size, 3] or float32 [N, 3, size, size]."""
        images = np.stack(list(views))
        if self.dtype == "uint8":
            return images
        return normalised(images, self.mean, self.std)

    def to_json(self) -> dict[str, object]:
        """As `preprocess.json` holds it: texts and whole numbers."""
        return {
            "version": 1,
            "decode": {
                "colour": "RGB, 8 bits, sRGB values as stored",
                "orientation": "EXIF applied",
                "transparency": "on white",
                "levels": {
                    kind: [_spelled(low), _spelled(high)] for kind, (low, high) in self.levels.items()
                },
            },
            "resize": {"region": "centre square", "side": self.side, "filter": "bicubic, antialiased"},
            "crop": {"region": "centre", "size": self.size},
            "input": {
                "layout": "NHWC" if self.dtype == "uint8" else "NCHW",
                "dtype": self.dtype,
                "normalisation": "inside the graph" if self.dtype == "uint8" else "(x / 255 - mean) / std",
                "mean": [_spelled(value) for value in self.mean],
                "std": [_spelled(value) for value in self.std],
            },
        }


def from_json(found: Any, where: str = _FILE) -> Preprocessing:
    """The inverse of `Preprocessing.to_json`.

    Raises:
        BundleRefused: it is none, or one whose steps this version does not know.
    """
    try:
        levels = {kind: (float(low), float(high)) for kind, (low, high) in found["decode"]["levels"].items()}
        source = found["input"]
        made = Preprocessing(
            side=found["resize"]["side"],
            size=found["crop"]["size"],
            dtype=source["dtype"],
            mean=tuple(float(value) for value in source["mean"]),
            std=tuple(float(value) for value in source["std"]),
            levels=levels,
        )
        again = made.to_json()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BundleRefused("%s describes no preprocessing: %s" % (where, shown(found))) from None
    if again != found:
        raise BundleRefused("%s describes steps that this version does not know" % where)
    _check(made, where)
    return made


def _check(made: Preprocessing, where: str) -> None:
    sizes = all(type(value) is int for value in (made.side, made.size)) and 1 <= made.size <= made.side
    channels = 3 if made.dtype == "float32" else 0
    numbers = [*made.mean, *made.std, *(bound for pair in made.levels.values() for bound in pair)]
    fits = (
        sizes
        and made.side <= _MOST_SIDE
        and made.dtype in ("uint8", "float32")
        and len(made.mean) == len(made.std) == channels
        and all(map(math.isfinite, numbers))
        and all(value > 0 for value in made.std)
        and made.levels.keys() <= LEVELS.keys()
        and all(low < high for low, high in made.levels.values())
    )
    if not fits:
        raise BundleRefused("%s describes a preprocessing that cannot be: %s" % (where, shown(made)))


def _spelled(value: float) -> str:
    """The shortest text of a number from which the same one comes back."""
    return repr(float(value))
