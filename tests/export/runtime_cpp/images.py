"""Image files of every kind that the C++ runtime decodes, made with Pillow and by hand."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def pixels(seed: int, height: int, width: int, channels: int = 3) -> Array:
    """Smooth pixels with some noise, uint8 [H, W, C]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize((width, height))
    noise = rng.integers(-20, 21, (height, width, 3))
    values = np.clip(np.asarray(coarse).astype(np.int64) + noise, 0, 255).astype(np.uint8)
    extra = rng.integers(0, 256, (height, width, max(0, channels - 3)), np.uint8)
    return np.concatenate([values, extra], axis=2)[:, :, :channels]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as a file's bytes."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(depth: int, colour: int, rows: Sequence[bytes], width: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG from rows of packed samples, without filters; `chunks` stand before the data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def lossless() -> dict[str, bytes]:
    """PNG and PPM files by name."""
    rng = np.random.default_rng(3)
    rgb, rgba = pixels(1, 61, 83), pixels(2, 40, 31, 4)
    turned = Image.Exif()
    found: dict[str, bytes] = {
        "rgb.png": saved(Image.fromarray(rgb), "PNG"),
        "grey.png": saved(Image.fromarray(rgb[:, :, 0]), "PNG"),
        "rgba.png": saved(Image.fromarray(rgba, "RGBA"), "PNG"),
        "la.png": saved(Image.fromarray(rgba[:, :, 2:], "LA"), "PNG"),
        "palette.png": saved(Image.fromarray(rgb).quantize(13), "PNG"),
        "bilevel.png": saved(Image.fromarray(rgb).convert("1"), "PNG"),
        "palette_alpha.png": saved(Image.fromarray(rgba, "RGBA").quantize(20), "PNG"),
        "rgb.ppm": saved(Image.fromarray(rgb), "PPM"),
        "grey.pgm": saved(Image.fromarray(rgb[:, :, 1]), "PPM"),
        "one.png": saved(Image.fromarray(rgb[:1, :1]), "PNG"),
        "wide.png": saved(Image.fromarray(pixels(4, 3, 900)), "PNG"),
        "tall.png": saved(Image.fromarray(pixels(5, 700, 2)), "PNG"),
        "tiny.png": saved(Image.fromarray(pixels(6, 9, 8)), "PNG"),
        "large.png": saved(Image.fromarray(pixels(7, 1500, 1100)), "PNG"),
        "square.png": saved(Image.fromarray(pixels(8, 40, 40)), "PNG"),
    }
    for orientation in range(1, 10):
        turned[0x0112] = orientation
        found[f"turned{orientation}.png"] = saved(Image.fromarray(rgb), "PNG", exif=turned)
    wide = rng.integers(0, 65536, (33, 29, 4)).astype(">u2")
    for name, colour, channels in (("grey", 0, 1), ("rgb", 2, 3), ("la", 4, 2), ("rgba", 6, 4)):
        rows = [row[:, :channels].tobytes() for row in wide]
        found[f"{name}16.png"] = png(16, colour, rows, 29)
    key = wide[3, 4]
    found["grey16_key.png"] = png(16, 0, [r[:, :1].tobytes() for r in wide], 29, (b"tRNS", key[:1].tobytes()))
    found["rgb16_key.png"] = png(16, 2, [r[:, :3].tobytes() for r in wide], 29, (b"tRNS", key[:3].tobytes()))
    for depth in (1, 2, 4):
        rows = [rng.bytes((29 * depth + 7) // 8) for _ in range(31)]
        found[f"grey{depth}.png"] = png(depth, 0, rows, 29)
        for value in (0, 1):
            found[f"grey{depth}_key{value}.png"] = png(
                depth, 0, rows, 29, (b"tRNS", struct.pack(">H", value))
            )
        colours = rng.bytes(3 * 2**depth)
        found[f"palette{depth}.png"] = png(depth, 3, rows, 29, (b"PLTE", colours))
        found[f"palette{depth}_alpha.png"] = png(
            depth, 3, rows, 29, (b"PLTE", colours), (b"tRNS", b"\x00\x80")
        )
    key8 = struct.pack(">HHH", *map(int, rgb[5, 6]))
    found["rgb_key.png"] = png(8, 2, [row.tobytes() for row in rgb], 83, (b"tRNS", key8))
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'
    found["xmp.png"] = png(8, 2, [row.tobytes() for row in rgb], 83, (b"iTXt", xmp))
    levels = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=2).astype(np.uint8)
    found["every_alpha.png"] = saved(Image.fromarray(levels, "LA"), "PNG")
    return found


def jpegs() -> dict[str, bytes]:
    """JPEG files by name."""
    photo = Image.fromarray(pixels(9, 331, 417))
    exif = Image.Exif()
    exif[0x0112] = 8
    found = {
        "colour.jpg": saved(photo, "JPEG", quality=90),
        "rough.jpg": saved(photo, "JPEG", quality=30),
        "full.jpg": saved(photo, "JPEG", quality=95, subsampling=0),
        "half.jpg": saved(photo, "JPEG", quality=85, subsampling=1),
        "progressive.jpg": saved(photo, "JPEG", quality=80, progressive=True),
        "grey.jpg": saved(photo.convert("L"), "JPEG", quality=85),
        "ink.jpg": saved(photo.convert("CMYK"), "JPEG", quality=90),
        "turned.jpg": saved(photo, "JPEG", quality=85, exif=exif),
        "xmp.jpg": saved(photo, "JPEG", quality=85, xmp=b"<x tiff:Orientation>3</x>"),
        "small.jpg": saved(photo.resize((19, 23)), "JPEG"),
    }
    for edge in (127, 128, 160, 255, 320, 640):
        found[f"edge{edge}.jpg"] = saved(Image.fromarray(pixels(edge, edge, edge + 3)), "JPEG", quality=88)
    return found


def bad() -> dict[str, bytes]:
    """Files that no decoder takes, by name."""
    good_png, good_jpeg = lossless()["rgb.png"], jpegs()["colour.jpg"]
    progressive = jpegs()["progressive.jpg"]
    flipped = bytearray(good_png)
    flipped[len(flipped) // 2] ^= 0xFF
    return {
        "empty.png": b"",
        "text.jpg": b"this is no image",
        "cut.png": good_png[: len(good_png) // 2],
        "cut.jpg": good_jpeg[: len(good_jpeg) // 2],
        "cut_progressive.jpg": progressive[: len(progressive) // 2],
        "head.jpg": good_jpeg[:3],
        "head.png": good_png[:8],
        "flipped.png": bytes(flipped),
        "huge.png": png(8, 0, [b"\0"], 1).replace(
            struct.pack(">II", 1, 1), struct.pack(">II", 999_999, 999_999)
        ),
        "bomb.png": png(8, 2, [b"\0" * 60_000] * 1, 20_000).replace(
            struct.pack(">II", 20_000, 1), struct.pack(">II", 20_000, 20_000)
        ),
        "short.ppm": b"P6 4 4 255\n" + b"\0" * 47,
        "words.ppm": b"P6 four 4 255\n" + b"\0" * 48,
        "many.ppm": b"P6 999999999999 4 255\n",
        "gif.gif": b"GIF89a",
    }
