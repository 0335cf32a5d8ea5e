"""Unusual images on their way into a prepared folder: what docs/datasets.md promises, case by case."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from figkd.data import decode, open_split, prepare
from figkd.data.files import channel_moments

RED, GREEN = (250, 10, 20), (20, 240, 10)


def _red(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (24, 16), RED).convert(mode)


def _jpeg(**options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _corrupt_png() -> bytes:
    buffer = io.BytesIO()
    _red().save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    start = data.index(b"IDAT") + 6
    data[start : start + 20] = bytes(20)
    return bytes(data)


def _turned(path: Path) -> None:
    """A camera held upright: stored lying, upper half green once it is turned right."""
    image = Image.new("RGB", (32, 32), RED)
    image.paste(GREEN, (0, 0, 16, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, "JPEG", quality=95, subsampling=0, exif=exif)


def _animation(path: Path) -> None:
    _red().save(path, "GIF", save_all=True, append_images=[Image.new("RGB", (24, 16), GREEN)], duration=50)


def _sixteen_bits(path: Path) -> None:
    Image.fromarray(np.full((8, 8), 200 * 257, np.uint16)).save(path, "PNG")


ODD: dict[str, Any] = {
    "cmyk.jpg": lambda path: _red("CMYK").save(path, "JPEG", quality=95),
    "palette.png": lambda path: _red("P").save(path, "PNG"),
    "grey16.png": _sixteen_bits,
    "turned.jpg": _turned,
    "animated.gif": _animation,
    "alpha.png": lambda path: Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(path, "PNG"),
    "progressive.jpg": lambda path: _red().save(path, "JPEG", progressive=True, quality=95),
    "one_pixel.png": lambda path: Image.new("RGB", (1, 1), RED).save(path, "PNG"),
    "bilevel.png": lambda path: Image.new("1", (8, 8), 1).save(path, "PNG"),
    "really_a_png.jpg": lambda path: _red().save(path, "PNG", compress_level=1),
}
"""Images that are used."""

SHOWN = {
    "cmyk.jpg": RED,
    "palette.png": RED,
    "grey16.png": (200, 200, 200),
    "animated.gif": RED,
    "alpha.png": (255, 255, 255),
    "progressive.jpg": RED,
    "one_pixel.png": RED,
    "bilevel.png": (255, 255, 255),
    "really_a_png.jpg": RED,
}
"""The colour that each is prepared as."""

BROKEN = {
    "cut.jpg": (_jpeg()[:900], "damaged or unreadable: image file is truncated"),
    "cut_header.jpg": (_jpeg()[:30], "damaged"),
    "corrupt.png": (_corrupt_png(), "damaged"),
    "page.jpg": (b"<html><body>404</body></html>", "not an image that can be identified"),
    "zeros.png": (bytes(500), "not an image that can be identified"),
}
"""Images that are left out, and the beginning of the reason."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes in three given splits, each with enough good images; the odd and the broken ones among them."""
    root = tmp_path / "root"
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for index in range(8):
                shade = ("train", "val", "test").index(split) * 16 + index + 8 * (name == "b")
                Image.new("RGB", (24, 16), (250, 10, shade)).save(root / split / name / f"good_{index}.png")
    for name, save in ODD.items():
        save(root / "test" / "a" / name)
    for name, (data, _) in BROKEN.items():
        for split in ("train", "test"):
            (root / split / "b" / name).write_bytes(data + split.encode() * bool(data))
    (root / "val" / "a" / "folder.jpg").mkdir()
    return root


def _prepared(root: Path, out: Path) -> dict[str, Any]:
    return prepare("image_folder", root, out, image_size=8, store_size=8)


def test_odd_images_are_used(root: Path, tmp_path: Path) -> None:
    """Protects: each unusual but sound image is there, with the colours that a person sees."""
    _prepared(root, tmp_path / "out")
    test = open_split(tmp_path / "out", "test")
    of_name = {name.rpartition("/")[2]: image for name, image in zip(test.ids, test.images, strict=True)}
    assert set(ODD) <= set(of_name)
    for name, colour in SHOWN.items():
        off = np.abs(of_name[name].astype(int) - np.array(colour)).max()
        assert off <= 16, f"{name}: off by {off}"
    turned = of_name["turned.jpg"].astype(int)
    assert turned[0, :, 1].min() > 200 > 50 > turned[-1, :, 1].max()


def test_broken_images_are_counted_and_listed(root: Path, tmp_path: Path) -> None:
    """Protects: broken images never stop a run; each is in data.json with its split and its reason."""
    said = _prepared(root, tmp_path / "out")
    assert said["counts"] == {"train": 16, "val": 16, "test": 16 + len(ODD)}
    stored = json.loads((tmp_path / "out" / "data.json").read_text())["skipped"]
    assert stored == said["skipped"]
    assert {(entry["split"], entry["file"]) for entry in stored} == {
        (split, f"{split}/b/{name}") for split in ("train", "test") for name in BROKEN
    }
    for entry in stored:
        assert entry["reason"].startswith(BROKEN[entry["file"].rpartition("/")[2]][1]), entry


def test_a_bomb_is_left_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory: an image that claims more than there is for one is refused unread."""
    monkeypatch.setattr(decode, "LIMIT_BYTES", 70_000)
    Image.new("RGB", (100, 100)).save(root / "test" / "a" / "bomb.png")
    reasons = {entry["file"]: entry["reason"] for entry in _prepared(root, tmp_path / "out")["skipped"]}
    assert reasons["test/a/bomb.png"].startswith("100 x 100 pixels take about")


def test_labels_stay_with_their_images(root: Path, tmp_path: Path) -> None:
    """Protects the order: what is left out shifts no label."""
    _prepared(root, tmp_path / "out")
    for split in ("train", "test"):
        found = open_split(tmp_path / "out", split)  # type: ignore[arg-type]
        assert [name.split("/")[1] for name in found.ids] == ["ab"[label] for label in found.labels]


def test_moments_are_exact() -> None:
    """Protects data.json: the sums are those of whole numbers, whatever the order of addition."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    values = pixels.reshape(-1, 3).astype(int)
    expected = [values.sum(0) / (255.0 * 2500), (values**2).sum(0) / (255.0**2 * 2500)]
    assert np.array_equal(channel_moments(pixels), expected)
