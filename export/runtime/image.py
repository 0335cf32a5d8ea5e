"""From an encoded image to a class: the whole path that a user waits for, step by step."""

from __future__ import annotations

import io
import time
from typing import Any, Mapping, Sequence

import numpy as np

from .arrays import Array
from .errors import BackendMissing, ExportError
from .sampling import Limits, Samples, Step, sample

_PILLOW = "pip install pillow, or on a device with its own Python sudo apt install python3-pil"
# What counts for values of more than 8 bits where the data set says nothing: 16 bits, and 0 to 1.
_LEVELS: Mapping[str, Sequence[float]] = {"integer": (0, 65535), "float": (0, 1)}


def pillow() -> Any:
    """The module `PIL.Image`.

    Raises:
        BackendMissing: Pillow cannot be imported.
    """
    try:
        from PIL import Image
    except Exception as error:  # an ImportError, or whatever a broken installation raises
        raise BackendMissing(f"Pillow cannot be imported: {error}", _PILLOW) from error
    return Image


def decode(encoded: bytes, store_size: int, levels: Mapping[str, Sequence[float]] | None = None) -> Any:
    """Decode a file's bytes to RGB, upright, transparency on white.

    Args:
        encoded: content of a JPEG, PNG or other image file.
        store_size: side in pixels that the view will be resized to; a JPEG is decoded at the smallest of its
            built-in scales that keeps twice this.
        levels: which values of more than 8 bits become black and white, by kind ("integer", "float"): `levels` of
            the `decoding` in the training data's data.json.

    Returns:
        A `PIL.Image.Image`.

    Raises:
        BackendMissing: Pillow cannot be imported.
        ExportError: the bytes are no image.
    """
    module = pillow()
    from PIL import ImageOps

    try:
        with module.open(io.BytesIO(encoded)) as image:
            if image.format == "JPEG" and image.mode in ("RGB", "L"):
                image.draft(image.mode, (2 * store_size, 2 * store_size))
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
                kind = "float" if upright.mode == "F" else "integer"
                upright = _eight_bits(upright, {**_LEVELS, **(levels or {})}[kind])
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                upright = upright.convert("RGBA")
                white = module.new("RGBA", upright.size, (255, 255, 255, 255))
                upright = module.alpha_composite(white, upright)
            return upright.convert("RGB")
    except Exception as error:
        raise ExportError(
            f"an image cannot be decoded: {error}", "give JPEG, PNG or another common format"
        ) from error


def _eight_bits(image: Any, levels: Sequence[float]) -> Any:
    """Grey of more than 8 bits as 8, the two values of `levels` black and white."""
    low, high = levels
    values = (np.asarray(image).astype(np.float64) - low) / (high - low)
    return pillow().fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


def evaluation_view(image: Any, store_size: int, image_size: int) -> Array:
    """The view that a model is evaluated on, as uint8 [image_size, image_size, 3].

    The centre square is resized to `store_size` (bicubic, antialiased), and its centre `image_size` kept.

    Raises:
        ExportError: `image_size` is larger than `store_size`.
    """
    if not 1 <= image_size <= store_size:
        raise ExportError(f"image size {image_size} does not fit into store size {store_size}")
    module = pillow()
    bicubic = getattr(module, "Resampling", module).BICUBIC  # older than Pillow 9.1 on JetPack 5
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    # Two calls: in one, Pillow 13 takes the rows first for some shapes, and other pixels come out.
    across = image.resize((store_size, height), bicubic, box=(left, 0, left + short, height))
    square = across.resize((store_size, store_size), bicubic, box=(0, top, store_size, top + short))
    margin = (store_size - image_size) // 2
    return np.asarray(square.crop((margin, margin, margin + image_size, margin + image_size)), np.uint8)


def normalised(images: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """uint8 [N, H, W, 3] as normalised float32 [N, 3, H, W].

    Args:
        images: as they are stored.
        mean: per channel, of values from 0 to 1.
        std: likewise.
    """
    scaled = images.astype(np.float32) / np.float32(255)
    values = (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def image_to_class(
    engine: Any,
    encoded: Sequence[bytes],
    store_size: int,
    image_size: int,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
) -> Step:
    """A query from encoded bytes to a class index that times its steps.

    Args:
        engine: accepts batch 1; has `input_dtype` and `infer`.
        encoded: files' contents, taken in turns.
        store_size: see `evaluation_view`.
        image_size: see `evaluation_view`.
        mean: per channel of [0, 1] values; used only where the engine takes normalised float images.
        std: likewise.

    Returns:
        A function that classifies the next image and returns the ms of the steps `decode`, `resize` (crop and layout
        included), `infer` and `argmax`; `latency` is the time from the first's start to the last's end.

    Raises:
        ExportError: no images. A call: one that cannot be decoded, or sizes that do not fit.
    """
    if not encoded:
        raise ExportError("no encoded images were given", "give at least one")
    clock = time.perf_counter_ns
    position = 0

    def step() -> dict[str, float]:
        nonlocal position
        data = encoded[position % len(encoded)]
        position += 1
        start = clock()
        image = decode(data, store_size)
        decoded = clock()
        batch = evaluation_view(image, store_size, image_size)[None]
        if engine.input_dtype != "uint8":
            batch = normalised(batch, mean, std)
        resized = clock()
        logits = engine.infer(batch)
        inferred = clock()
        int(logits[0].argmax())
        end = clock()
        return {
            "latency": (end - start) / 1e6,
            "decode": (decoded - start) / 1e6,
            "resize": (resized - decoded) / 1e6,
            "infer": (inferred - resized) / 1e6,
            "argmax": (end - inferred) / 1e6,
        }

    return step


def time_image_to_class(
    step: Step,
    *,
    warmup_s: float = 0.2,
    min_samples: int = 1000,
    min_seconds: float = 0.0,
    max_seconds: float = 10.0,
) -> Samples:
    """Host-measured samples of an `image_to_class` query; arguments as in `Engine.time`."""
    limits = Limits(warmup_s, min_samples, min_seconds, max_seconds)
    return sample(step, limits, batch=1, boundary="image_to_class")


def classify(engine: Any, encoded: bytes, store_size: int, image_size: int) -> int:
    """Class index of one encoded image, for an engine with uint8 input."""
    view = evaluation_view(decode(encoded, store_size), store_size, image_size)
    return int(engine.infer(view[None])[0].argmax())
