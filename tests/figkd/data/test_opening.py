"""Files opened by content: each library's formats, reasons for the rest, and no crash whatever the bytes are."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from figkd.data import opening
from figkd.data.decode import Decoded, Job, decode_many
from figkd.data.opening import opened, reasons
from figkd.errors import DataError

RED = (250, 10, 20)


def _reason(image: Path | bytes) -> str:
    with (
        pytest.raises(DataError) as caught,
        reasons(),
        opened(image if isinstance(image, Path) else lambda: image),
    ):
        pass
    return caught.value.what


def _is_red(found: Decoded | DataError) -> bool:
    assert isinstance(found, Decoded), found
    return bool((np.abs(found.pixels.astype(int) - np.array(RED)) <= 6).all())


@pytest.fixture
def heic(tmp_path: Path) -> Path:
    """A photograph as a telephone saves it, named as it does."""
    library = pytest.importorskip("pillow_heif", reason="only pillow-heif writes HEIC")
    path = tmp_path / "IMG_0001.HEIC"
    library.from_pillow(Image.new("RGB", (64, 48), RED)).save(path, quality=95)
    return path


def test_heic_is_read(heic: Path) -> None:
    """Protects telephones' photographs: they are images like any other, whatever they are called."""
    renamed = heic.rename(heic.with_suffix(".jpg"))
    (found,) = decode_many([Job(renamed)], 8, 1)
    assert _is_red(found)


def test_heic_without_its_library(heic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the fix: without the library the reason says what to install; nothing is said of damage."""

    def missing(name: str) -> object:
        raise ImportError(name)

    opening._heif.cache_clear()
    monkeypatch.setattr(opening, "import_module", missing)
    try:
        assert _reason(heic) == (
            "HEIC image, and no library that reads it is installed: pip install 'figkd-pipeline[heif]'"
        )
    finally:
        opening._heif.cache_clear()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_avif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects AVIF: read where Pillow can, else the reason says what to install."""
    Image.new("RGB", (64, 48), RED).save(tmp_path / "a.avif", quality=95)
    (found,) = decode_many([Job(tmp_path / "a.avif")], 8, 1)
    assert _is_red(found)
    monkeypatch.setattr(opening, "_avif", lambda: False)
    assert "pip install --upgrade pillow" in _reason(tmp_path / "a.avif")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\x0a\xfa\x7f\x01", "JXL image, which is not read here: convert it to PNG or JPEG"),
        (bytes(128) + b"DICM" + bytes(50), "DICOM image, which is not read here: convert it to PNG or JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image that can be identified"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be identified"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an image that can be identified"),
        (b"", "empty file"),
    ],
)
def test_reasons_by_content(data: bytes, reason: str) -> None:
    """Protects the list of what was left out: what a file is, not that a library did not understand it."""
    assert _reason(data) == reason


def test_a_preview_is_not_the_picture(tmp_path: Path) -> None:
    """Protects against raw files of cameras (NEF, DNG): they are TIFFs, of which Pillow gives a thumbnail."""
    Image.new("RGB", (16, 12)).save(tmp_path / "a.nef", "TIFF", tiffinfo={254: 1})
    assert "preview of another one" in _reason(tmp_path / "a.nef")
    Image.new("RGB", (16, 12)).save(tmp_path / "a.tif", tiffinfo={254: 2})
    with opened(tmp_path / "a.tif") as page:
        assert page.size == (16, 12)


def test_what_is_no_ordinary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the run: a folder, a pipe (which would never end), a dangling link, a file of somebody else's."""
    os.mkfifo(tmp_path / "pipe.png")
    assert _reason(tmp_path / "pipe.png") == "not an ordinary file"
    assert _reason(tmp_path) == "a folder"
    (tmp_path / "link.png").symlink_to("nowhere")
    assert "No such file" in _reason(tmp_path / "link.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert _reason(tmp_path / "a.png") == "it may not be read: permission denied"


def _files() -> Iterator[bytes]:
    """Small images of each format, mode and peculiarity."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (12, 10, 4), dtype=np.uint8)
    deep = rng.integers(0, 65536, (12, 10), dtype=np.uint16)
    modes = {
        mode: Image.fromarray(noise).convert(mode) for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK")
    }
    modes |= {"I;16": Image.fromarray(deep), "F": Image.fromarray(deep.astype(np.float32))}
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA", "ICO"):
        for mode, image in modes.items():
            for options in ({}, {"exif": exif}, {"progressive": True}, {"compression": "tiff_lzw"}):
                file = io.BytesIO()
                try:
                    image.save(file, name, **options)
                except (OSError, ValueError, KeyError):
                    continue  # not written in this mode, or by this Pillow
                yield file.getvalue()
                if not options or mode not in ("RGB", "P"):
                    break


def test_damaged_bytes_never_crash(capfd: pytest.CaptureFixture[str]) -> None:
    """Protects long runs: 1,500 files, with bytes changed, cut, doubled or moved, give pixels or a reason."""
    rng = np.random.default_rng(2)
    whole = list(dict.fromkeys(_files()))
    assert len(whole) > 30

    def mutant() -> bytes:
        data = bytearray(whole[rng.integers(len(whole))])
        for _ in range(rng.integers(1, 5)):
            at, kind = int(rng.integers(len(data))), rng.integers(5)
            if kind == 0:
                data[at] = rng.integers(256)
            elif kind == 1:
                data[at : at + 4] = bytes(rng.choice([0, 255, 127], 4).tolist())
            elif kind == 2:
                data[at:at] = data[at : at + 8]
            elif kind == 3 and at > 8:
                del data[at:]
            else:
                data[at] ^= 1 << int(rng.integers(8))
        return bytes(data)

    mutants = [mutant() for _ in range(1500)]
    jobs = [Job(lambda data=data: data) for data in (*whole, *mutants)]  # type: ignore[misc]
    found = list(decode_many(jobs, 8, 2))
    sound, damaged = found[: len(whole)], found[len(whole) :]
    assert [image.what for image in sound if isinstance(image, DataError)] == []
    assert all(image.pixels.shape == (8, 8, 3) for image in found if isinstance(image, Decoded))
    reasons_ = [image.what for image in damaged if isinstance(image, DataError)]
    assert 100 < len(reasons_) < 1400 and all(reasons_)
    assert capfd.readouterr() == ("", "")
