"""Images to square RGB arrays of 8 bits; one that cannot be decoded is an error with a reason, never a crash.

What happens to unusual files: EXIF rotation is applied; CMYK, YCbCr, LAB and palette images are converted to
RGB; transparency is composed on white; images of more than 8 bits are scaled by the data set's rule (see
`figkd.data.levels`); of several pages or frames the first counts. Each is a remark on the image. Empty, truncated,
corrupt and unreadable files are refused, and those that need more memory than `figkd.data.room` allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image as PILImage

from figkd.data.deep import deep_kind, grey_as_eight_bits, seen_range
from figkd.data.levels import UNSEEN, Rules, rule_of
from figkd.data.opening import Image as Image
from figkd.data.opening import Pixels as Pixels
from figkd.data.opening import has_upper_bits_only, opened, reasons
from figkd.data.remarks import Remark, heard, listening
from figkd.data.room import LIMIT_BYTES, bytes_to_decode, shared_room
from figkd.data.sources import Source
from figkd.errors import DataError
from figkd.heap import freed_memory_kept

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
    | {".jfif", ".jp2", ".avif", ".heic", ".heif"}
)
"""Suffixes (lower case) of the files that count as images."""

Box = tuple[int, int, int, int]

# EXIF's orientation to what makes the image upright.
_TURNS = {
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_270,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_ON_ITS_SIDE = range(5, 9)
# Formats whose further frames are no content: previews beside a photograph, and layers of a drawing.
_ONE_PICTURE = frozenset({"MPO", "PSD"})


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


@dataclass(frozen=True)
class Decoded:
    """An image, decoded.

    Attributes:
        pixels: uint8 [side, side, 3].
        source: what it was before.
        remarks: what was done to it beyond turning and resizing.
        clipped: values beyond the data set's range.
        warnings: what the library said about the file.
    """

    pixels: Pixels
    source: Source
    remarks: frozenset[Remark] = frozenset()
    clipped: int = 0
    warnings: tuple[str, ...] = ()


def decode_square(
    image: Image, side: int, box: Box | None = None, cut_bottom: int = 0, rules: Rules | None = None
) -> Pixels:
    """Decode an image: RGB, upright, shorter side resized to `side` (bicubic, antialiased), centre square.

    Args:
        image: where it comes from.
        side: pixels.
        box: keep only this part of the stored image, cut to its bounds.
        cut_bottom: rows to cut off at the bottom of the stored image first.
        rules: of the data set, for images of more than 8 bits; None takes this image for all of it.

    Returns:
        uint8 [side, side, 3].

    Raises:
        DataError: the image cannot be decoded; `.what` is the reason without the path.
    """
    with listening():
        return _decode(Job(image, box, cut_bottom), side, rules).pixels


def decode_many(
    jobs: Iterable[Job], side: int, workers: int, rules: Rules | None = None
) -> Iterator[Decoded | DataError]:
    """Decode images in a thread pool; results come in the order of the jobs, errors as values.

    Args:
        jobs: the images.
        side: pixels of the squares.
        workers: threads. Together they hold no more memory than `figkd.data.room.shared_room` has.
        rules: of the data set, for images of more than 8 bits.
    """
    known: Rules = rules or {}

    def one(job: Job) -> Decoded | DataError:
        try:
            return _decode(job, side, known)
        except DataError as error:
            return error

    with freed_memory_kept(), listening(), ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        # A bounded window: a pool's map would queue every job and hold every finished image.
        window: deque[Future[Decoded | DataError]] = deque()
        for job in jobs:
            window.append(pool.submit(one, job))
            if len(window) >= 8 * max(1, workers):
                yield window.popleft().result()
        while window:
            yield window.popleft().result()


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image; hidden files are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _decode(job: Job, side: int, rules: Rules | None) -> Decoded:
    """Decode one image; `rules` None takes its own range for the data set's."""
    box = job.box() if callable(job.box) else job.box
    with heard() as warnings, reasons(), opened(job.image) as stored:
        full_size = stored.size
        if box or job.cut_bottom:
            width, height = full_size
            box = _inside(box or (0, 0, width, height), (width, height - job.cut_bottom))
        scale = _reduce(stored, box or (0, 0, *full_size), side)
        needed = bytes_to_decode(stored, full_size)
        if needed > LIMIT_BYTES:
            raise DataError(
                f"{full_size[0]:,} x {full_size[1]:,} pixels take about {needed / 1e9:.1f} GB to decode, more than "
                f"the {LIMIT_BYTES / 1e9:.1f} GB for one image: make it smaller, or save it as a baseline JPEG"
            )
        remarks: set[Remark] = set()
        if stored.format not in _ONE_PICTURE and getattr(stored, "is_animated", False):
            remarks.add("first_of_several")
        with shared_room().taken(needed):
            image, clipped = _eight_bits(stored, rules, remarks)
            if box:
                image = image.crop(_scaled_box(box, scale, image.size))
            orientation = stored.getexif().get(_ORIENTATION, 1)
            turn = _TURNS.get(orientation)
            if turn is not None:
                image = image.transpose(turn)
            pixels = _square(_on_white(image, remarks), side)
        source = _source(stored.format, full_size, box, on_its_side=orientation in _ON_ITS_SIDE)
        return Decoded(pixels, source, frozenset(remarks), clipped, tuple(dict.fromkeys(warnings)))


def _source(form: str | None, size: tuple[int, int], box: Box | None, *, on_its_side: bool) -> Source:
    left, top, right, bottom = box or (0, 0, *size)
    width, height = reversed(size) if on_its_side else size
    # A photograph with previews beside it is a JPEG as any other.
    name = "JPEG" if form == "MPO" else form or "array"
    return Source(name, width, height, min(right - left, bottom - top))


def _reduce(stored: PILImage.Image, box: Box, side: int) -> int:
    """Let libjpeg skip detail that the resize would throw away, keeping at least twice the side of the box."""
    short = min(box[2] - box[0], box[3] - box[1])
    scale = next((scale for scale in (8, 4, 2) if short // scale >= 2 * side), 1)
    if scale == 1 or stored.format not in ("JPEG", "MPO") or stored.mode not in ("RGB", "L", "CMYK"):
        return 1
    stored.draft(stored.mode, (stored.width // scale, stored.height // scale))
    return scale


def _scaled_box(box: Box, scale: int, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    return left // scale, top // scale, min(-(-right // scale), size[0]), min(-(-bottom // scale), size[1])


def _eight_bits(
    stored: PILImage.Image, rules: Rules | None, remarks: set[Remark]
) -> tuple[PILImage.Image, int]:
    """Load an opened image; one of more than 8 bits is scaled. With it, how many of its values were clipped."""
    kind = deep_kind(stored)
    if kind is None:
        if has_upper_bits_only(stored):
            remarks.add("cut_to_8_bits")
        stored.load()
        return stored, 0
    if rules is None:
        seen = seen_range(stored)
        rules = {kind: rule_of(kind, [seen] if seen else [])}
    if kind not in rules:
        remarks.add("range_unknown")
    found = grey_as_eight_bits(stored, rules.get(kind, UNSEEN[kind]))
    remarks.add("scaled_to_8_bits")
    if found[1]:
        remarks.add("clipped")
    return found


def _on_white(image: PILImage.Image, remarks: set[Remark]) -> PILImage.Image:
    """The image in mode L or RGB."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        least, most = cast("tuple[int, int]", image.getchannel("A").getextrema())
        if least < 255:
            remarks.add("transparent_on_white" if most else "invisible")
            white = PILImage.new("RGBA", image.size, (255, 255, 255, 255))
            image = PILImage.alpha_composite(white, image)
    elif image.mode == "CMYK":
        remarks.add("cmyk_to_rgb")
    elif image.mode in ("YCbCr", "LAB", "HSV"):
        remarks.add("other_colours_to_rgb")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _square(image: PILImage.Image, side: int) -> Pixels:
    width, height = image.size
    short = min(width, height)
    if short < 1:
        raise DataError("an image without pixels")
    # Resizing only the central square gives the same pixels as resizing all and cropping, up to half a pixel.
    left, top = (width - short) / 2, (height - short) / 2
    # Two calls: in one, Pillow 13 takes the rows first for some shapes, and other pixels come out.
    across = image.resize((side, height), PILImage.Resampling.BICUBIC, box=(left, 0, left + short, height))
    square = across.resize((side, side), PILImage.Resampling.BICUBIC, box=(0, top, side, top + short))
    return cast(Pixels, np.asarray(square.convert("RGB"), dtype=np.uint8))


def _inside(box: Box, size: tuple[int, int]) -> Box:
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(size[0], box[2]), min(size[1], box[3])
    if right <= left or bottom <= top:
        raise DataError(f"the box {box} lies outside the image")
    return left, top, right, bottom
