"""Decoding: unusual files give the right pixels, broken ones a reason."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from figkd.data import decode
from figkd.data.decode import Decoded, Job, decode_many, decode_square, is_image
from figkd.data.levels import Levels
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
    assert isinstance(second, Decoded) and _close(second.pixels, BLUE)


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
    assert isinstance(found[1], Decoded)


def test_many_files_come_in_order(tmp_path: Path) -> None:
    """Protects labels: results keep the order of the jobs beyond the size of the window."""
    for index in range(50):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index}.png")
    found = decode_many((Job(tmp_path / f"{index}.png") for index in range(50)), 4, workers=2)
    assert [int(image.pixels[0, 0, 0]) for image in found if isinstance(image, Decoded)] == list(range(50))


def _decoded(path: Path, side: int = 8, rules: Any = None) -> Decoded:
    (found,) = decode_many([Job(path)], side, 1, rules)
    assert isinstance(found, Decoded), found
    return found


def _png(path: Path, mode: int, bits: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG of the kinds that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    bytes_a_row = len(rows[0])
    width = bytes_a_row * 8 // (bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[mode])
    head = struct.pack(">IIBBBBB", width, len(rows), bits, mode, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *(chunk(*part) for part in chunks)]
    parts.append(chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_half_transparent_is_half_white(tmp_path: Path, mode: str) -> None:
    """Protects opacity between none and all, in each mode that has it."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([0, 0, 0] * 256)
        image.save(tmp_path / "a.png", transparency=bytes([128] + [255] * 255))
    else:
        image.convert(mode).save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    found = _decoded(next(tmp_path.iterdir()))
    assert _close(found.pixels, (127, 127, 127), 1)
    assert found.remarks == {"transparent_on_white"}


@pytest.mark.parametrize(
    "name", ["rgb", "grey", "black_and_white", "grey4", "grey2", "grey16", "rgb16", "la16"]
)
def test_a_transparent_colour_is_white(tmp_path: Path, name: str) -> None:
    """Protects drawings whose background is one transparent colour, at every depth of a PNG."""
    path = tmp_path / "a.png"
    if name == "rgb":
        Image.new("RGB", (8, 8), (0, 3, 0)).save(path, transparency=(0, 3, 0))
    elif name == "grey":
        Image.new("L", (8, 8), 9).save(path, transparency=9)
    elif name == "black_and_white":
        Image.new("1", (8, 8), 0).save(path, transparency=0)
    elif name == "grey4":
        _png(path, 0, 4, [bytes([0x33] * 4)] * 8, (b"tRNS", struct.pack(">H", 3)))
    elif name == "grey2":
        _png(path, 0, 2, [bytes([0x55] * 2)] * 8, (b"tRNS", struct.pack(">H", 1)))
    elif name == "grey16":
        _png(path, 0, 16, [struct.pack(">8H", *[700] * 8)] * 8, (b"tRNS", struct.pack(">H", 700)))
    elif name == "rgb16":
        _png(
            path, 2, 16, [struct.pack(">24H", *[700] * 24)] * 8, (b"tRNS", struct.pack(">3H", 700, 700, 700))
        )
    else:
        _png(path, 4, 16, [struct.pack(">16H", *[700, 0] * 8)] * 8)
    assert _close(_decoded(path).pixels, (255, 255, 255)), name


def test_an_opaque_alpha_channel_is_no_remark(tmp_path: Path) -> None:
    """Protects the counts: RGBA as such is nothing unusual; a picture that nobody can see is."""
    _halves().convert("RGBA").save(tmp_path / "a.png")
    assert _decoded(tmp_path / "a.png").remarks == set()
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "b.png")
    assert _decoded(tmp_path / "b.png").remarks == {"invisible"}


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_the_same_value_is_the_same_grey(tmp_path: Path, dtype: str) -> None:
    """Protects brightness within a data set: one rule for all, whatever else an image shows."""
    rules = {"integer": Levels(0, 1000), "float": Levels(0, 1000)}
    greys = []
    for top in (255, 256, 1000, 9000):
        values = np.full((16, 16), 200, dtype)
        values[8:] = top
        Image.fromarray(values).save(tmp_path / "a.tif")
        found = _decoded(tmp_path / "a.tif", 16, rules)
        greys.append(int(found.pixels[0, 0, 0]))
        assert found.clipped == (128 if top == 9000 else 0)
        assert ("clipped" in found.remarks) == (top == 9000)
    assert len(set(greys)) == 1


def test_a_kind_without_a_rule_is_remarked(tmp_path: Path) -> None:
    """Protects: a test image of a kind that training never showed is shown by 16 bits, and said."""
    Image.fromarray(np.full((8, 8), 200 * 257, np.uint16)).save(tmp_path / "a.png")
    found = _decoded(tmp_path / "a.png")
    assert _close(found.pixels, (200, 200, 200), 0)
    assert found.remarks == {"scaled_to_8_bits", "range_unknown"}


def test_sixteen_bit_colour_is_remarked(tmp_path: Path) -> None:
    """Protects: Pillow gives the upper 8 bits of 16-bit colour; that is said."""
    path = _png(tmp_path / "a.png", 2, 16, [struct.pack(">24H", *[200 * 257] * 24)] * 8)
    found = _decoded(path)
    assert _close(found.pixels, (200, 200, 200), 1) and found.remarks == {"cut_to_8_bits"}


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_several_frames_are_remarked(tmp_path: Path, suffix: str) -> None:
    """Protects scans of several pages and animations: the first is used, and it is said."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, RED)]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    found = _decoded(tmp_path / f"a.{suffix}")
    assert _close(found.pixels, RED) and found.remarks == {"first_of_several"}
    frames[0].save(tmp_path / f"a.{suffix}", **options)
    assert _decoded(tmp_path / f"a.{suffix}").remarks == set()


def test_a_preview_beside_a_photograph_is_no_page(tmp_path: Path) -> None:
    """Protects telephones' JPEGs with a second picture (MPO): decoded as JPEGs are, and nothing to remark."""
    large, small = Image.new("RGB", (400, 400), RED), Image.new("RGB", (40, 40), BLUE)
    large.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[small])
    found = _decoded(tmp_path / "a.jpg")
    assert _close(found.pixels, RED) and found.remarks == set()


def test_print_colours_are_remarked(tmp_path: Path) -> None:
    """Protects: colours that need a profile to be right are counted."""
    _halves().convert("CMYK").save(tmp_path / "a.jpg")
    assert _decoded(tmp_path / "a.jpg").remarks == {"cmyk_to_rgb"}
    _halves().convert("LAB").save(tmp_path / "b.tif")
    assert _decoded(tmp_path / "b.tif").remarks == {"other_colours_to_rgb"}


@pytest.mark.parametrize("box", [(400, 0, 800, 400), (401, 3, 795, 399), (0, 0, 800, 400)])
def test_a_box_in_a_large_photograph(tmp_path: Path, box: tuple[int, int, int, int]) -> None:
    """Protects boxes in JPEGs that are decoded at a reduced scale: they keep the part that they name."""
    y, x = np.mgrid[0:400, 0:800]
    smooth = np.stack([x * 255 // 800, y * 255 // 400, (x + y) * 255 // 1200], -1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    apart = decode_square(tmp_path / "a.jpg", 20, box).astype(int) - decode_square(
        tmp_path / "a.png", 20, box
    )
    assert np.abs(apart).max() <= 4


def test_warnings_of_the_library_are_remarks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Protects the terminal: what Pillow and libtiff say about a file is counted, not printed."""
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[5000:6000] = bytes(1000)
    (tmp_path / "a.tif").write_bytes(data)
    exif = Image.Exif()
    exif[0x010E] = "x" * 50
    _halves().save(tmp_path / "b.jpg", exif=exif.tobytes()[:30])
    broken, odd = decode_many([Job(tmp_path / "a.tif"), Job(tmp_path / "b.jpg")], 8, 2)
    assert isinstance(broken, DataError)
    assert isinstance(odd, Decoded) and any("EXIF" in text for text in odd.warnings)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_images_have_the_pixels_of_plain_pillow(tmp_path: Path, mode: str, orientation: int) -> None:
    """Protects yesterday's data: 8-bit photographs and drawings are decoded to the same bytes as ever."""
    rng = np.random.default_rng(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix, size in itertools.product(("jpg", "png"), ((40, 30), (31, 47), (400, 260))):
        noise = Image.fromarray(rng.integers(0, 256, (size[1] // 3, size[0] // 3, 3), dtype=np.uint8))
        noise.resize(size).convert(mode).save(tmp_path / f"a.{suffix}", exif=exif)
        with Image.open(tmp_path / f"a.{suffix}") as plain:
            if suffix == "jpg":
                plain.draft(mode, (2 * 24, 2 * 24))
            upright = ImageOps.exif_transpose(plain).convert("RGB")
        width, height = upright.size
        short = min(upright.size)
        left, top = (width - short) / 2, (height - short) / 2
        # First across, then down, which Pillow 13 turns round in one call for some shapes.
        across = upright.resize((24, height), Image.Resampling.BICUBIC, box=(left, 0, left + short, height))
        square = across.resize((24, 24), Image.Resampling.BICUBIC, box=(0, top, 24, top + short))
        expected = np.asarray(square)
        found = _decoded(tmp_path / f"a.{suffix}", 24)
        assert np.array_equal(found.pixels, expected)
        assert not found.remarks and not found.warnings


def test_too_large_for_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory: an image that claims more than the limit is refused unread, with the size and what to do."""
    monkeypatch.setattr(decode, "LIMIT_BYTES", 1_000_000)
    Image.new("RGB", (400, 400)).save(tmp_path / "a.png")
    Image.new("RGB", (2000, 2000)).save(tmp_path / "b.jpg")
    Image.new("RGB", (2000, 2000)).save(tmp_path / "c.jpg", progressive=True)
    found = list(decode_many([Job(tmp_path / name) for name in ("a.png", "b.jpg", "c.jpg")], 8, 2))
    assert isinstance(found[0], DataError) and "400 x 400 pixels" in found[0].what
    assert "make it smaller" in found[0].what
    assert isinstance(found[1], Decoded)
    assert isinstance(found[2], DataError)


_PEAK = """
import sys
from pathlib import Path
from figkd.data.decode import Decoded, Job, decode_many
from tests.memory import growth
with growth() as taken:
    found = list(decode_many([Job(Path(sys.argv[1]))] * int(sys.argv[2]), 64, int(sys.argv[2])))
assert all(isinstance(image, Decoded) for image in found), found
print(taken.bytes)
"""


@pytest.mark.parametrize(
    ("name", "threads", "bytes_a_pixel"),
    [("grey16.png", 1, 6), ("rgb.png", 1, 9), ("rgba.png", 1, 17), ("deep.tif", 1, 12), ("large.jpg", 4, 1)],
)
def test_peak_memory(tmp_path: Path, name: str, threads: int, bytes_a_pixel: float) -> None:
    """Protects the memory of one image: so many bytes a pixel at the peak of a fresh process, not thirty."""
    side = 4000 if name == "large.jpg" else 2500
    if name == "grey16.png":
        Image.fromarray(np.full((side, side), 4000, np.uint16)).save(tmp_path / name)
    elif name == "deep.tif":
        Image.fromarray(np.full((side, side), 0.5, np.float32)).save(tmp_path / name)
    else:
        mode = {"rgb.png": "RGB", "rgba.png": "RGBA", "large.jpg": "RGB"}[name]
        colour = (*RED, 100) if mode == "RGBA" else RED
        Image.new(mode, (side, side), colour).save(tmp_path / name)
    command = [sys.executable, "-c", _PEAK, str(tmp_path / name), str(threads)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    # 25 MB for the interpreter's own growth: threads, codecs, strips.
    assert peak <= bytes_a_pixel * threads * side * side + 25e6


def test_image_names() -> None:
    """Protects the file filter: case does not matter, hidden and other files are left out."""
    assert is_image(Path("a/B.JPG"))
    assert not is_image(Path("a/._b.jpg"))
    assert not is_image(Path("a/b.txt"))
