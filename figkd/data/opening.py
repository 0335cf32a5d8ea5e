"""Image files opened by their content, each format by the library that reads it."""

from __future__ import annotations

import ctypes
import io
import logging
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageFile, UnidentifiedImageError, features

from figkd.data.formats import DEPTH_BYTES, bits_of, kind_of
from figkd.data.left_out import HEIC_READER
from figkd.errors import DataError

Pixels = npt.NDArray[np.uint8]
Image = Path | Pixels | Callable[[], bytes]
"""Where an image comes from: a file, pixels uint8 [H, W] or [H, W, 3], or a call that gives a file's bytes."""

_UNREAD = frozenset({"JXL", "PSD", "EXR", "FITS", "RAW", "DICOM"})
_OTHERS = ("DIB", "ICO", "ICNS", "TGA", "PCX", "SGI", "DDS", "QOI")
"""Pillow's formats that have no certain first bytes. The rest of its formats are no pictures of pixels (EPS is a
program, and Pillow has it run)."""

_SUBFILE_TYPE, _BITS_A_SAMPLE, _PLANES = 254, 258, 284
_BITS = "bit_depth"
"""Where pillow-heif, and `opened` for other formats, tell an image's bits a value."""
_PNG_GREY_DEPTHS = {"L;2": 85, "L;4": 17}


@contextmanager
def opened(image: Image) -> Iterator[PILImage.Image]:
    """Open an image; its pixels are not decoded yet.

    Raises:
        DataError: it cannot be opened; `.what` is the reason without the path.
    """
    if isinstance(image, np.ndarray):
        yield PILImage.fromarray(image)
        return
    with _file(image) as file:
        head = file.read(DEPTH_BYTES)
        kind = kind_of(head)
        file.seek(0)
        with _identified(file, kind) as found:
            if found.format == "TIFF" and _tag(found, _SUBFILE_TYPE) & 1:
                raise DataError(
                    "its first picture is a preview of another one, as in a camera's raw file: convert it to JPEG"
                )
            if _planes_of_16_bits(found):
                raise DataError(
                    "16-bit colour in separate planes, which Pillow reads as 8 bits: save it with interleaved colours"
                )
            found.info.setdefault(_BITS, bits_of(head, kind))
            _mend_transparency(found)
            yield found


@contextmanager
def reasons() -> Iterator[None]:
    """Turn what libraries raise on images that cannot be decoded into a DataError with the reason.

    Raises:
        DataError: whatever the block raises of that kind.
    """
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("not an image that can be identified") from error
    except PermissionError as error:
        raise DataError("it may not be read: permission denied") from error
    except MemoryError as error:
        raise DataError("not enough memory to decode it") from error
    except OSError as error:
        raise DataError(f"damaged or unreadable: {error.strerror or str(error)}") from error
    except (ValueError, SyntaxError, TypeError, IndexError, KeyError, EOFError, RuntimeError) as error:
        # The libraries' plug-ins raise all of these on damaged files.
        raise DataError(f"damaged: {error or type(error).__name__}") from error


def readable(kind: str) -> bool:
    """Whether a format of `figkd.data.formats` can be decoded with the libraries that are installed."""
    missing = {"HEIC": lambda: not _heif(), "AVIF": lambda: not _avif()}
    return kind not in _UNREAD and not missing.get(kind, lambda: False)()


def has_upper_bits_only(image: PILImage.Image) -> bool:
    """Whether an opened image is colour of more than 8 bits a value, of which Pillow decodes the upper 8 bits only."""
    if image.info.get(_BITS, 8) > 8 or any(";16" in str(tile) for tile in _tiles(image)):
        return True
    # Of a netpbm file the decoder is given the largest value.
    largest = [
        tile[3][-1] for tile in _tiles(image) if tile[0].startswith("ppm") and isinstance(tile[3], tuple)
    ]
    return any(value > 255 for value in largest)


@contextmanager
def _file(image: Path | Callable[[], bytes]) -> Iterator[IO[bytes]]:
    if isinstance(image, Path):
        status = image.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DataError("a folder")
        if not stat.S_ISREG(status.st_mode):
            raise DataError("not an ordinary file")
        if status.st_size == 0:
            raise DataError("empty file")
        with image.open("rb") as file:
            yield file
        return
    data = image()
    if not data:
        raise DataError("empty file")
    yield io.BytesIO(data)


def _identified(file: IO[bytes], kind: str | None) -> PILImage.Image:
    if kind is None:
        return PILImage.open(file, formats=_OTHERS)
    if kind in _UNREAD:
        raise DataError(f"{kind} image, which is not read here: convert it to PNG or JPEG")
    if kind == "HEIC":
        _need(_heif, f"HEIC image, and no library that reads it is installed: {HEIC_READER}")
        return PILImage.open(file, formats=("HEIF",))
    if kind == "AVIF":
        _need(_avif, "AVIF image, and no library that reads it is installed: pip install --upgrade pillow")
    if kind == "WEBP" and not features.check("webp"):
        raise DataError(
            "WebP image, and this Pillow reads none: pip install --upgrade --force-reinstall pillow"
        )
    if kind == "TIFF":
        _quiet_libtiff()
    return PILImage.open(file, formats=(kind,))


def _need(library: Callable[[], bool], reason: str) -> None:
    if not library():
        raise DataError(reason)


@cache
def _heif() -> bool:
    """Whether HEIC can be read; registers the library that does: pi-heif is pillow-heif without the encoder."""
    for name in ("pi_heif", "pillow_heif"):
        try:
            import_module(name).register_heif_opener()
        except ImportError:
            continue
        return True
    return False


@cache
def _avif() -> bool:
    """Whether AVIF can be read: by Pillow from 11.3, by a plug-in before."""
    if features.check("avif"):
        return True
    try:
        import_module("pillow_avif")
    except ImportError:
        return False
    return True


@cache
def _quiet_libtiff() -> None:
    """Keep libtiff from writing to the terminal about damaged files: what it finds, Pillow raises."""
    try:
        from PIL import _imaging

        # The handle of what is loaded already: a library of the same name elsewhere has handlers of its own.
        library = _imaging.__file__
        symbols = ctypes.CDLL(library)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(symbols, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
    except (OSError, AttributeError, ImportError, TypeError):
        return


def _mend_transparency(image: PILImage.Image) -> None:
    """Give a PNG's transparent value the scale on which Pillow decodes its pixels."""
    value = image.info.get("transparency")
    if image.format != "PNG" or value is None or isinstance(value, bytes):
        return
    modes = {str(tile[3]) for tile in _tiles(image)}
    if isinstance(value, tuple) and any(";16" in mode for mode in modes):
        image.info["transparency"] = tuple(part >> 8 for part in value)
    for mode in modes & _PNG_GREY_DEPTHS.keys():
        image.info["transparency"] = value * _PNG_GREY_DEPTHS[mode]


def _planes_of_16_bits(image: PILImage.Image) -> bool:
    """Whether Pillow takes a TIFF's planes of 16-bit values for planes of 8-bit ones: it does without compression."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_A_SAMPLE, ())
    deep = isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8
    return deep and _tag(image, _PLANES) == 2 and any(tile[0] == "raw" for tile in _tiles(image))


def _tag(image: PILImage.Image, number: int) -> int:
    """A whole number among a TIFF's tags; 0 if it has none."""
    value = getattr(image, "tag_v2", {}).get(number, 0)
    return value if isinstance(value, int) else 0


def _tiles(image: PILImage.Image) -> list[tuple[str, tuple[int, int, int, int], int, object]]:
    return list(getattr(image, "tile", ()))


# A file that ends early must be an error, whatever another library in the process has set.
ImageFile.LOAD_TRUNCATED_IMAGES = False
# How much memory an image may take is judged by its format and depth (see `figkd.data.room`), not by its pixels.
PILImage.MAX_IMAGE_PIXELS = None
# Blocks so large are given back to the system at once; smaller ones stay with the thread that had them.
PILImage.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
# What Pillow logs about a damaged file, it raises too; without a handler it would go to the terminal.
logging.getLogger("PIL").addHandler(logging.NullHandler())
