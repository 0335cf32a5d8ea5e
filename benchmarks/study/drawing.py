"""What the rendered data sets of the study share: one drawn sample as an image, and the folder of splits."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

STORE = 36
"""Side of a written image: views of 32 px, and 2 px on each side to shift them."""
_SCALE = 4


def varied(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture of any size on white as a sample of `STORE` px: size, place, angle, blur, contrast and noise vary."""
    draw = rng.random(8)
    side = round(_SCALE * STORE * (0.68 + 0.16 * draw[0]))
    canvas = Image.new("RGB", (_SCALE * STORE, _SCALE * STORE), "white")
    shift = (draw[1:3] - 0.5) * 0.08 * _SCALE * STORE
    corner = tuple(round((_SCALE * STORE - side) / 2 + float(s)) for s in shift)
    small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    canvas.paste(small, corner)  # type: ignore[arg-type]
    angle = math.degrees((draw[3] - 0.5) * 0.2)
    canvas = canvas.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")
    canvas = canvas.resize((STORE, STORE), Image.Resampling.BOX)
    if draw[4] > 0.5:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(draw[4] - 0.5)))
    light = np.asarray(canvas, dtype=np.float32) / 255
    contrast = 140 + 100 * draw[5]
    light = 255 - draw[6] * (255 - contrast) - contrast * (1 - light)
    light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(2 + 6 * draw[7])
    return Image.fromarray(np.clip(np.rint(light), 0, 255).astype(np.uint8))


def generator(*place: str | int) -> np.random.Generator:
    """A generator for one sample, a function of where the sample is."""
    digest = hashlib.sha256("\0".join(map(str, place)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def save(sample: Image.Image, out: Path, split: str, label: str, name: str) -> None:
    """Write <out>/<split>/<label>/<name>.png."""
    path = out / split / label / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    sample.save(part, format="PNG")
    os.replace(part, path)
