"""Images to square RGB arrays; one that cannot be decoded is an error with a reason, never a crash.

What happens to unusual files: EXIF rotation is applied; CMYK, YCbCr, LAB and palette images are converted to
RGB; transparency is composed on white; 16-bit and 32-bit grey is scaled to 8 bits (by 257 if the values fit
16 bits and exceed 8, otherwise by their range); of animations the first frame counts. Empty, truncated,
corrupt, unreadable and unreasonably large files are refused.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageFile, ImageOps, UnidentifiedImageError

from figkd.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
"""Suffixes (lower case) of the files that count as images."""

Pixels = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
Image = Path | Pixels | Callable[[], bytes]
"""Where an image comes from: a file, pixels uint8 [H, W] or [H, W, 3], or a call that gives a file's bytes."""


@dataclass(frozen=True)
class Job:
    """An image to decode, and what to keep of it (in pixels as stored).

    Attributes:
        image: where it comes from.
        box: keep this part only (left, top, right, bottom), or a call that reads it; None keeps all.
        cut_bottom: rows to cut off at the bottom first (a banner).
    """

    image: Image
    box: Box | Callable[[], Box | None] | None = None
    cut_bottom: int = 0


def decode_square(image: Image, side: int, box: Box | None = None, cut_bottom: int = 0) -> Pixels:
    """Decode an image: RGB, upright, shorter side resized to `side` (bicubic, antialiased), centre square.

    Args:
        image: where it comes from.
        side: pixels.
        box: keep only this part of the stored image, cut to its bounds.
        cut_bottom: rows to cut off at the bottom of the stored image first.

    Returns:
        uint8 [side, side, 3].

    Raises:
        DataError: the image cannot be decoded; `.what` is the reason without the path.
    """
    try:
        with _open(image) as stored:
            if box is None and not cut_bottom:
                if stored.format == "JPEG" and stored.mode in ("RGB", "L"):
                    # Lets libjpeg skip detail that the resize would throw away, keeping at least twice the side.
                    stored.draft(stored.mode, (2 * side, 2 * side))
                stored.load()
                return _square(_rgb(ImageOps.exif_transpose(stored)), side)
            stored.load()
            width, height = stored.size
            part = stored.crop(_inside(box or (0, 0, width, height), (width, height - cut_bottom)))
            return _square(_rgb(_rotate_like(stored, part)), side)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("not an image that can be identified") from error
    except PILImage.DecompressionBombError as error:
        raise DataError("more pixels than any photograph has") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"damaged or unreadable: {reason}") from error
    except (ValueError, SyntaxError, TypeError, IndexError, KeyError, EOFError, MemoryError) as error:
        # Pillow's plug-ins raise all of these on damaged files.
        raise DataError(f"damaged: {error or type(error).__name__}") from error


def decode_many(jobs: Iterable[Job], side: int, workers: int) -> Iterator[Pixels | DataError]:
    """Decode images in a thread pool; results come in the order of the jobs, errors as values."""

    def one(job: Job) -> Pixels | DataError:
        try:
            box = job.box() if callable(job.box) else job.box
            return decode_square(job.image, side, box, job.cut_bottom)
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        # A bounded window: a pool's map would queue every job and hold every finished image.
        window: deque[Future[Pixels | DataError]] = deque()
        for job in jobs:
            window.append(pool.submit(one, job))
            if len(window) >= 8 * max(1, workers):
                yield window.popleft().result()
        while window:
            yield window.popleft().result()


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _open(image: Image) -> PILImage.Image:
    if isinstance(image, np.ndarray):
        return PILImage.fromarray(image)
    if isinstance(image, Path):
        if image.stat().st_size == 0:
            raise DataError("empty file")
        return PILImage.open(image)
    data = image()
    if not data:
        raise DataError("empty file")
    return PILImage.open(io.BytesIO(data))


def _rgb(image: PILImage.Image) -> PILImage.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        white = PILImage.new("RGBA", image.size, (255, 255, 255, 255))
        image = PILImage.alpha_composite(white, image)
    return image.convert("RGB")


def _eight_bits(image: PILImage.Image) -> PILImage.Image:
    values = np.asarray(image).astype(np.float64)
    top = values.max(initial=0.0)
    if not np.isfinite(values).all():
        raise DataError("damaged: pixel values that are not finite")
    if values.min(initial=0.0) < 0 or top > 65535:
        values = (values - values.min()) / max(np.ptp(values), 1e-12) * 255
    elif image.mode.startswith("I;16") or top > 255:
        values = values / 257
    return PILImage.fromarray(np.round(values).astype(np.uint8), mode="L")


def _square(image: PILImage.Image, side: int) -> Pixels:
    width, height = image.size
    short = min(width, height)
    if short < 1:
        raise DataError("an image without pixels")
    # Resizing only the central square gives the same pixels as resizing all and cropping, up to half a pixel.
    left, top = (width - short) / 2, (height - short) / 2
    square = image.resize(
        (side, side), PILImage.Resampling.BICUBIC, box=(left, top, left + short, top + short)
    )
    return cast(Pixels, np.asarray(square, dtype=np.uint8))


def _inside(box: Box, size: tuple[int, int]) -> Box:
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(size[0], box[2]), min(size[1], box[3])
    if right <= left or bottom <= top:
        raise DataError(f"the box {box} lies outside the image")
    return left, top, right, bottom


def _rotate_like(image: PILImage.Image, part: PILImage.Image) -> PILImage.Image:
    part.getexif()[0x0112] = image.getexif().get(0x0112, 1)
    return ImageOps.exif_transpose(part)


# A file that ends early must be an error, whatever another library in the process has set.
ImageFile.LOAD_TRUNCATED_IMAGES = False
