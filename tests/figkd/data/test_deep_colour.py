"""Colour of more than 8 bits a value: what the decoder drops is said in every format; what it misreads is refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.runtime.bundle.decode import decode
from export.runtime.bundle.errors import ImageRefused
from figkd.data.decode import Decoded, Job, decode_many
from figkd.data.formats import bits_of, kind_of
from figkd.errors import DataError

VALUES = np.linspace(0, 65535, 8 * 8 * 3).astype("<u2").reshape(8, 8, 3)
TWO, FOUR = 3, 4
"""A TIFF's types of numbers: of two bytes and of four."""


def tiff(values: np.ndarray, *, planes: bool = False, compressed: bool = False, colours: int = 2) -> bytes:
    """A TIFF of 16-bit values [H, W, C], as Pillow does not write it; `colours` is its photometric interpretation."""
    height, width, channels = values.shape
    parts = [values[..., i] for i in range(channels)] if planes else [values]
    strips = [zlib.compress(part.tobytes()) if compressed else part.tobytes() for part in parts]
    tags = [
        (256, FOUR, [width]), (257, FOUR, [height]), (258, TWO, [16] * channels), (259, TWO, [8 if compressed else 1]),
        (262, TWO, [colours]), (273, FOUR, [0] * len(strips)), (277, TWO, [channels]), (278, FOUR, [height]),
        (279, FOUR, [len(strip) for strip in strips]), (284, TWO, [2 if planes else 1]),
    ]  # fmt: skip

    def laid_out(offsets: list[int]) -> bytes:
        at, entries, beyond = 8 + 2 + 12 * len(tags) + 4, b"", b""
        for number, kind, numbers in tags:
            words = offsets if number == 273 else numbers
            data = struct.pack(f"<{len(words)}{'H' if kind == TWO else 'I'}", *words)
            entries += struct.pack("<HHI", number, kind, len(words))
            entries += data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", at + len(beyond))
            beyond += data if len(data) > 4 else b""
        head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4
        return head + beyond

    start = len(laid_out([0] * len(strips)))
    offsets = [start + sum(map(len, strips[:i])) for i in range(len(strips))]
    return laid_out(offsets) + b"".join(strips)


def jpeg2000(form: str) -> bytes:
    """A JPEG 2000 that says 16 bits a value."""
    buffer = io.BytesIO()
    Image.fromarray((VALUES >> 8).astype(np.uint8)).save(buffer, form)
    data = bytearray(buffer.getvalue())
    size = data.find(b"\xff\x4f\xff\x51")
    for channel in range(3):
        data[size + 42 + 3 * channel] = 15
    if (header := data.find(b"ihdr")) >= 0:
        data[header + 14] = 15
    return bytes(data)


def netpbm(largest: int) -> bytes:
    """A netpbm file with that largest value."""
    return b"P6 8 8 %d\n" % largest + (VALUES // (65536 // (largest + 1))).astype(">u2").tobytes()


def found(tmp_path: Path, content: bytes) -> Decoded | DataError:
    """What the data stage makes of it."""
    (tmp_path / "a").write_bytes(content)
    (result,) = decode_many([Job(tmp_path / "a")], 8, 1, {})
    return result


@pytest.mark.parametrize(
    "content",
    [
        lambda: tiff(VALUES),
        lambda: tiff(VALUES, compressed=True),
        lambda: tiff(VALUES, compressed=True, planes=True),
        lambda: tiff(np.concatenate([VALUES, VALUES[..., :1]], -1), colours=5),
        lambda: netpbm(65535),
        lambda: netpbm(1023),
        lambda: jpeg2000("JPEG2000"),
    ],
    ids=["TIFF", "deflated", "deflated planes", "CMYK", "netpbm", "netpbm of 10 bits", "JPEG 2000"],
)
def test_the_lost_bits_are_said(content: Callable[[], bytes], tmp_path: Path) -> None:
    """Protects "no content lost without a word", and that a bundle's runtime decodes the same pixels."""
    data = content()
    result = found(tmp_path, data)
    assert isinstance(result, Decoded) and "cut_to_8_bits" in result.remarks
    assert np.array_equal(decode(data, 8), result.pixels)


def test_ten_bit_heic_is_said(tmp_path: Path) -> None:
    """As cameras write HDR."""
    heif = pytest.importorskip("pillow_heif")
    values = np.tile(VALUES, (8, 8, 1))
    heif.from_bytes(mode="RGB;16", size=(64, 64), data=values.tobytes()).save(tmp_path / "a.heic")
    result = found(tmp_path, (tmp_path / "a.heic").read_bytes())
    assert isinstance(result, Decoded) and result.remarks == {"cut_to_8_bits"}


def test_planes_that_pillow_misreads_are_refused_here_and_on_devices(tmp_path: Path) -> None:
    """Uncompressed, it takes 16-bit planes for 8-bit ones: a picture of noise."""
    data = tiff(VALUES, planes=True)
    result = found(tmp_path, data)
    assert isinstance(result, DataError) and "separate planes" in result.what
    with pytest.raises(ImageRefused, match="separate planes"):
        decode(data, 8)


@pytest.mark.parametrize(("flags", "bits"), [(0x0C, 8), (0x4C, 10), (0x6C, 12), (0x2C, 8)])
def test_bits_of_an_avif(flags: int, bits: int) -> None:
    """In its AV1 configuration: `high_bitdepth` and `twelve_bit`."""
    head = b"\0\0\0\x1cftypavif\0\0\0\0" + b"\0" * 100 + b"av1C\x81\0" + bytes([flags]) + b"\0" * 8
    assert kind_of(head) == "AVIF" and bits_of(head, "AVIF") == bits
    assert bits_of(head[:-11], "AVIF") == 8, "cut off before it"


def test_eight_bits_are_not_remarked(tmp_path: Path) -> None:
    """The same formats with 8 bits."""
    image = Image.fromarray((VALUES >> 8).astype(np.uint8))
    for form in ("PNG", "TIFF", "PPM", "JPEG2000"):
        image.save(tmp_path / "b", form)
        result = found(tmp_path, (tmp_path / "b").read_bytes())
        assert isinstance(result, Decoded) and not result.remarks, form
