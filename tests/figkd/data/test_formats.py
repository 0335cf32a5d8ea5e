"""Formats by content: what a file is, whatever it is called."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from figkd.data.formats import HEAD_BYTES, kind_of

WRITTEN = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000", "AVIF"]
NEEDS = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_pillow_writes(name: str, mode: str) -> None:
    """Protects the reader of data: every format that Pillow writes is known by its first bytes."""
    if name in NEEDS and not features.check(NEEDS[name]):
        pytest.skip(f"this Pillow has no {name}")
    file = io.BytesIO()
    Image.new(mode, (20, 30), 7).save(file, format=name)
    assert kind_of(file.getvalue()[:HEAD_BYTES]) == name
    assert kind_of(file.getvalue()) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "RAW"),
        (b"\xff\x0a\xfa\x7f\x01", "JXL"),
        (b"P5\n# made by hand\n3 2\n255\n", "PPM"),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM"),
        (b"8BPS\0\x01" + bytes(20), "PSD"),
    ],
)
def test_formats_of_other_programs(head: bytes, name: str) -> None:
    """Protects telephones', cameras' and clinics' files: they have a name, so that a reason can be told."""
    assert kind_of(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<html><body>not found",
        b"BM is a bookshop in Bern, and this is a text about it.",
        b"P1 is the first of our problems",
        b"%PDF-1.7",
        b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"PK\x03\x04",
    ],
)
def test_what_is_no_image(head: bytes) -> None:
    """Protects against texts, films, sounds and archives beside the images: they are none."""
    assert kind_of(head) is None


@given(st.binary(max_size=400))
def test_any_bytes_have_an_answer(head: bytes) -> None:
    """Protects the reader from odd files: any bytes give a name or None, and only the first ones count."""
    assert kind_of(head) == kind_of(head[:HEAD_BYTES])
