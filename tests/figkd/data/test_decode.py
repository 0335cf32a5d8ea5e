"""Decoding: unusual files give the right pixels, broken ones a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figkd.data.decode import Job, decode_many, decode_square, is_image
from figkd.errors import DataError

RED, BLUE = (250, 10, 20), (10, 20, 250)


def _halves(width: int = 40, height: int = 20) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def _close(pixels: np.ndarray, colour: tuple[int, ...], tolerance: int = 6) -> bool:
    return bool((np.abs(pixels.astype(int) - np.array(colour)) <= tolerance).all())


def test_shape_and_centre_crop(tmp_path: Path) -> None:
    """Protects the geometry: shorter side to S, centre square, RGB order."""
    _halves().save(tmp_path / "a.png")
    pixels = decode_square(tmp_path / "a.png", 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert _close(pixels[:, :3], RED)
    assert _close(pixels[:, 5:], BLUE)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    """Protects photographs from telephones: orientation 6 (turn right) puts the left half on top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    _halves(40, 40).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    pixels = decode_square(tmp_path / "a.jpg", 16)
    assert _close(pixels[:6], RED, 12)
    assert _close(pixels[10:], BLUE, 12)
    boxed = decode_square(tmp_path / "a.jpg", 16, (0, 0, 40, 40))
    assert _close(boxed[:6], RED, 12)


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "RGBA", "YCbCr"])
def test_colour_modes(tmp_path: Path, mode: str) -> None:
    """Protects unusual colour modes: they come out as the same RGB colours."""
    name = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    _halves().convert(mode).save(name)
    pixels = decode_square(name, 8)
    assert _close(pixels[:, :3], RED, 10)
    assert _close(pixels[:, 5:], BLUE, 10)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    """Protects print-shop JPEGs, which are stored inverted."""
    _halves().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert _close(decode_square(tmp_path / "a.jpg", 8)[:, :2], RED, 16)


def test_transparency_is_white(tmp_path: Path) -> None:
    """Protects drawings: what is transparent is white, not whatever colour lies under it."""
    image = _halves().convert("RGBA")
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    assert _close(decode_square(tmp_path / "a.png", 8), (255, 255, 255))
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0, 0, 0] * 256)
    palette.save(tmp_path / "b.png", transparency=3)
    assert _close(decode_square(tmp_path / "b.png", 8), (255, 255, 255))


def test_sixteen_bits(tmp_path: Path) -> None:
    """Protects 16-bit grey images from being clipped to white."""
    values = np.full((8, 8), 128 * 257, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert _close(decode_square(tmp_path / "a.png", 8), (128, 128, 128), 1)
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "b.tif")
    assert _close(decode_square(tmp_path / "b.tif", 8), (128, 128, 128), 1)


def test_box(tmp_path: Path) -> None:
    """Protects bounding boxes: only their content is kept, cut to the image."""
    _halves().save(tmp_path / "a.png")
    assert _close(decode_square(tmp_path / "a.png", 4, (20, 0, 99, 99)), BLUE)
    with pytest.raises(DataError, match="outside the image"):
        decode_square(tmp_path / "a.png", 4, (50, 0, 60, 10))


def test_rows_are_cut_at_the_bottom(tmp_path: Path) -> None:
    """Protects banners: they are gone, a box ends above them, and one below them is an error."""
    image = Image.new("RGB", (30, 40), RED)
    image.paste(BLUE, (0, 30, 30, 40))
    image.save(tmp_path / "a.png")
    assert _close(decode_square(tmp_path / "a.png", 8, cut_bottom=10), RED)
    assert _close(decode_square(tmp_path / "a.png", 8, (0, 20, 30, 40), 10), RED)
    with pytest.raises(DataError, match="outside the image"):
        decode_square(tmp_path / "a.png", 8, (0, 31, 30, 40), 10)
    with pytest.raises(DataError, match="outside the image"):
        decode_square(tmp_path / "a.png", 8, cut_bottom=40)


def test_images_in_memory(tmp_path: Path) -> None:
    """Protects data sets without files: pixels of the wanted size are kept, grey becomes RGB; bytes as files."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decode_square(pixels, 8), pixels)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert np.array_equal(decode_square(planes, 8), pixels)
    grey = decode_square(pixels[:, :, 0], 8)
    assert np.array_equal(grey, np.repeat(pixels[:, :, :1], 3, axis=2))
    assert decode_square(pixels, 16).shape == (16, 16, 3)
    _halves().save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(decode_square(lambda: data, 8), decode_square(tmp_path / "a.png", 8))
    found = list(decode_many([Job(lambda: b""), Job(lambda: data[:60]), Job(lambda: data)], 8, workers=2))
    assert [isinstance(value, DataError) for value in found] == [True, True, False]


def test_boxes_that_are_read_when_they_are_needed(tmp_path: Path) -> None:
    """Protects: an annotation that cannot be read is an error value of its image, in its place."""
    _halves().save(tmp_path / "a.png")

    def broken() -> tuple[int, int, int, int]:
        raise DataError("no annotation")

    jobs = [Job(tmp_path / "a.png", broken), Job(tmp_path / "a.png", lambda: (20, 0, 40, 20))]
    first, second = decode_many(jobs, 4, workers=2)
    assert isinstance(first, DataError) and first.what == "no annotation"
    assert isinstance(second, np.ndarray) and _close(second, BLUE)


def test_draft_decoding_keeps_the_picture(tmp_path: Path) -> None:
    """Protects the JPEG shortcut: a large photograph scaled while decoding looks like one scaled after."""
    y, x = np.mgrid[0:600, 0:600]
    smooth = np.stack([x * 255 // 600, y * 255 // 600, (x + y) * 255 // 1200], -1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    near = np.abs(decode_square(tmp_path / "a.jpg", 32).astype(int) - decode_square(tmp_path / "a.png", 32))
    assert near.max() <= 4


def test_broken_files_have_reasons(tmp_path: Path) -> None:
    """Protects long runs: every kind of broken file is an error value with a reason, in its place."""
    _halves(200, 200).save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("<html>not found</html>")
    _halves(200, 200).save(tmp_path / "bad.png")
    noise = bytearray((tmp_path / "bad.png").read_bytes())
    noise[60:90] = bytes(30)
    (tmp_path / "bad.png").write_bytes(noise)
    (tmp_path / "folder.jpg").mkdir()
    names = ["empty.jpg", "good.jpg", "cut.jpg", "text.png", "bad.png", "folder.jpg", "gone.jpg"]
    found = list(decode_many([Job(tmp_path / name) for name in names], 8, workers=3))
    reasons = {
        name: value.what for name, value in zip(names, found, strict=True) if isinstance(value, DataError)
    }
    assert set(reasons) == set(names) - {"good.jpg"}
    assert reasons["empty.jpg"] == "empty file"
    assert "identified" in reasons["text.png"]
    assert all(reasons.values())
    assert isinstance(found[1], np.ndarray)


def test_many_files_come_in_order(tmp_path: Path) -> None:
    """Protects labels: results keep the order of the jobs beyond the size of the window."""
    for index in range(50):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index}.png")
    found = decode_many((Job(tmp_path / f"{index}.png") for index in range(50)), 4, workers=2)
    assert [int(pixels[0, 0, 0]) for pixels in found if isinstance(pixels, np.ndarray)] == list(range(50))


def test_image_names() -> None:
    """Protects the file filter: case does not matter, hidden and other files are left out."""
    assert is_image(Path("a/B.JPG"))
    assert not is_image(Path("a/._b.jpg"))
    assert not is_image(Path("a/b.txt"))
