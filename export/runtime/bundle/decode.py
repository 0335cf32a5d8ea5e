"""An image file's bytes to upright RGB pixels. Pillow decodes; it is needed for nothing else.

As in training: EXIF rotation is applied; CMYK, YCbCr, LAB and palette images are converted to RGB; transparency is
composed on white; grey images of more than 8 bits are scaled by the data set's levels, and of such colours the upper 8
bits count; of several frames the first counts.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from .errors import CannotRun, ImageRefused

if TYPE_CHECKING:
    from ..arrays import Array

MOST_BYTES = 1 << 28
"""Of an image file."""
MOST_PIXELS = 1 << 27
"""Of an image, as it is decoded."""
LEVELS: Mapping[str, tuple[float, float]] = {"integer": (0.0, 65535.0), "float": (0.0, 1.0)}
"""What becomes black and white where the data set says nothing."""
_FORMATS = frozenset(
    {"JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "HEIF"}
)
_ORIENTATION, _SUBFILE_TYPE, _BITS_A_SAMPLE, _PLANES = 0x0112, 254, 258, 284
_GREY_DEPTHS = {"L;2": 85, "L;4": 17}
_STRIP_VALUES = 1 << 20
_COMMON = "give JPEG, PNG or another common format"


def decode(
    encoded: bytes,
    side: int,
    levels: Mapping[str, tuple[float, float]] = LEVELS,
    most_pixels: int = MOST_PIXELS,
) -> Array:
    """Upright RGB pixels, uint8 [H, W, 3].

    Args:
        encoded: content of an image file.
        side: what the shorter side will be resized to; a JPEG is decoded at the smallest of its built-in scales that
            keeps twice this.
        levels: which values of more than 8 bits become black and white, by kind.
        most_pixels: that are decoded.

    Raises:
        ImageRefused: the bytes are no image, a damaged one, or too large.
        CannotRun: Pillow is missing.
    """
    if not encoded:
        raise ImageRefused("the image is empty: 0 bytes", _COMMON)
    if len(encoded) > MOST_BYTES:
        raise ImageRefused("the image has more than %d bytes" % MOST_BYTES, "make it smaller")
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(encoded)) as image:
            _refuse(image)
            _reduce(image, side)
            if image.width * image.height > most_pixels:
                raise ImageRefused(
                    "the image has %d x %d pixels, more than %d in all" % (*image.size, most_pixels),
                    "make it smaller",
                )
            _mend_transparency(image)
            plain = _eight_bits(image, levels, pillow)
            turn = image.getexif().get(_ORIENTATION, 1)
            pixels = np.asarray(_on_white(plain, pillow), np.uint8)
    except ImageRefused:
        raise
    except MemoryError:
        raise ImageRefused("there is not enough memory to decode the image", "make it smaller") from None
    except Exception as error:  # plug-ins raise whatever they like on damaged files
        if type(error).__name__ == "UnidentifiedImageError":
            raise ImageRefused("this is no image that can be identified", _COMMON) from None
        if type(error).__name__ == "DecompressionBombError":
            raise ImageRefused("the image has too many pixels", "make it smaller") from None
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageRefused("the image is damaged: %s" % reason, _COMMON) from None
    if min(pixels.shape[:2]) < 1:
        raise ImageRefused("an image without pixels", _COMMON)
    return upright(pixels, turn)


def upright(pixels: Array, orientation: object) -> Array:
    """Pixels [H, W, C] turned as EXIF's orientation asks; unknown ones mean no turn."""
    turned: dict[object, Any] = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, 1),
    }
    turn = turned.get(orientation)
    return pixels if turn is None else turn(pixels)


def decoder_facts() -> dict[str, str]:
    """Versions of what decodes here; empty values where it is not known."""
    try:
        from PIL import Image, features
    except Exception:
        return {"pillow": "", "libjpeg": ""}
    return {"pillow": getattr(Image, "__version__", ""), "libjpeg": _jpeg_version(features)}


def _jpeg_version(features: Any) -> str:
    try:
        turbo = features.check_feature("libjpeg_turbo")
        version = features.version_feature("libjpeg_turbo") if turbo else features.version_codec("jpg")
    except Exception:
        return ""
    return "%s %s" % ("libjpeg-turbo" if turbo else "libjpeg", version or "")


def _pillow() -> Any:
    try:
        from PIL import Image
    except Exception as error:  # an ImportError, or whatever a broken installation raises
        raise CannotRun(
            "Pillow, which decodes images, cannot be imported: %s" % error,
            "pip install pillow, or apt-get install python3-pil; tensors need none",
        ) from None
    for name in ("pi_heif", "pillow_heif"):
        if "HEIF" in Image.OPEN:
            break
        try:
            __import__(name).register_heif_opener()
        except Exception:
            continue
    return Image


def _refuse(image: Any) -> None:
    if image.format not in _FORMATS:
        raise ImageRefused("a %s file, which is not read here" % image.format, _COMMON)
    tags = getattr(image, "tag_v2", {})
    subfile = tags.get(_SUBFILE_TYPE, 0)
    if image.format == "TIFF" and isinstance(subfile, int) and subfile & 1:
        raise ImageRefused("its first picture is a preview, as in a camera's raw file", "convert it to JPEG")
    bits, raw = tags.get(_BITS_A_SAMPLE), any(tile[0] == "raw" for tile in getattr(image, "tile", ()))
    if isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8 and tags.get(_PLANES) == 2 and raw:
        raise ImageRefused(
            "16-bit colour in separate planes, which Pillow reads as 8 bits",
            "save it with interleaved colours",
        )


def _reduce(image: Any, side: int) -> None:
    """Let libjpeg skip detail that the resize would throw away."""
    short = min(image.size)
    scale = next((scale for scale in (8, 4, 2) if short // scale >= 2 * side), 1)
    if scale > 1 and image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L", "CMYK"):
        image.draft(image.mode, (image.width // scale, image.height // scale))


def _mend_transparency(image: Any) -> None:
    """Give a PNG's transparent value the scale on which Pillow decodes its pixels."""
    value = image.info.get("transparency")
    if image.format != "PNG" or value is None or isinstance(value, bytes):
        return
    modes = {str(tile[3]) for tile in getattr(image, "tile", ())}
    if isinstance(value, tuple) and any(";16" in mode for mode in modes):
        image.info["transparency"] = tuple(part >> 8 for part in value)
    for mode in modes & set(_GREY_DEPTHS):
        image.info["transparency"] = value * _GREY_DEPTHS[mode]


def _eight_bits(image: Any, levels: Mapping[str, tuple[float, float]], pillow: Any) -> Any:
    """The image, loaded; grey of more than 8 bits as 8."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        image.load()
        return image
    kind = "float" if image.mode == "F" else "integer"
    low, high = levels.get(kind, LEVELS[kind])
    transparent = image.info.get("transparency")
    grey = np.empty((image.height, image.width), np.uint8)
    rows = max(1, _STRIP_VALUES // max(1, image.width))
    for top in range(0, image.height, rows):
        values = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("pixel values that are not finite")
        part = np.rint(np.clip((numbers - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        if isinstance(transparent, int):
            part[values == transparent] = 255
        grey[top : top + rows] = part
    return pillow.fromarray(grey)


def _on_white(image: Any, pillow: Any) -> Any:
    """The image in mode RGB."""
    if _has_transparency(image):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            image = pillow.alpha_composite(pillow.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _has_transparency(image: Any) -> bool:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return True
    return image.mode == "P" and str(image.palette.mode).endswith("A")
