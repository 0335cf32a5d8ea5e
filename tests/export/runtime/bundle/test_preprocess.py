"""An image becomes, on a device, the very pixels that training saw; an image that is none becomes one clear message."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.runtime.bundle.decode import MOST_PIXELS, decode
from export.runtime.bundle.errors import BundleRefused, ImageRefused
from export.runtime.bundle.preprocess import Preprocessing, from_json
from figkd.data.crop import centre_crop
from figkd.data.decode import decode_square
from figkd.data.levels import Kind, Levels

SPEC = Preprocessing(side=48, size=40)
SIZES = [(90, 60), (61, 97), (48, 48), (20, 30), (900, 700), (411, 1300)]


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Smooth, with noise: a decoder's own reductions show."""
    generator = np.random.default_rng(size[0])
    y, x = np.mgrid[: size[1], : size[0]]
    base = np.stack([x * 255 / size[0], y * 255 / size[1], (x + y) % 256], -1)
    pixels = np.clip(base + generator.normal(0, 20, base.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _trained(encoded: bytes, tmp_path: Path, **options: Any) -> np.ndarray[Any, Any]:
    path = tmp_path / "image"
    path.write_bytes(encoded)
    return centre_crop(decode_square(path, 48, **options)[None], 40)[0]


FORMS = [
    ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("P", "PNG"), ("1", "PNG"), ("L", "PNG"),
    ("RGBA", "PNG"), ("LA", "PNG"), ("RGB", "BMP"), ("P", "GIF"), ("RGB", "WEBP"), ("RGBA", "WEBP"),
    ("RGB", "TIFF"), ("CMYK", "TIFF"), ("RGB", "PPM"),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mode", "form"), FORMS)
def test_the_pixels_are_those_of_training(
    mode: str, form: str, size: tuple[int, int], tmp_path: Path
) -> None:
    encoded = _encoded(_picture(size, mode), form)
    np.testing.assert_array_equal(SPEC.view(encoded), _trained(encoded, tmp_path))


@pytest.mark.parametrize("orientation", range(10))
def test_a_photograph_is_turned_as_training_turned_it(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = _encoded(_picture((400, 300)), "JPEG", exif=exif)
    np.testing.assert_array_equal(SPEC.view(encoded), _trained(encoded, tmp_path))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
@pytest.mark.parametrize("levels", [(0, 4095), (0, 65535), (-1, 1)])
def test_deep_images_follow_the_rule_of_the_data(dtype: str, levels: tuple[int, int], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 5000, (60, 90)).astype(dtype)
    encoded = _encoded(Image.fromarray(values), "TIFF")
    kind: Kind = "float" if dtype == "float32" else "integer"
    spec = Preprocessing(side=48, size=40, levels={kind: (float(levels[0]), float(levels[1]))})
    trained = _trained(encoded, tmp_path, rules={kind: Levels(*map(float, levels))})
    np.testing.assert_array_equal(spec.view(encoded), trained)


def test_palette_with_transparency_animation_and_sixteen_bit_colour(tmp_path: Path) -> None:
    frames = [_picture((60, 50), "P"), _picture((60, 50), "P").rotate(90)]
    animated = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    transparent = _encoded(_picture((60, 50), "P"), "PNG", transparency=3)
    grey = _encoded(Image.fromarray(np.arange(3000, dtype=np.uint16).reshape(50, 60) * 20), "PNG")
    for encoded in (animated, transparent, grey):
        np.testing.assert_array_equal(
            SPEC.view(encoded), _trained(encoded, tmp_path, rules={"integer": Levels(0, 65535)})
        )


def test_float_input_is_normalised_as_the_graph_was_fed(tmp_path: Path) -> None:
    spec = Preprocessing(side=48, size=40, dtype="float32", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.75))
    view = spec.view(_encoded(_picture((90, 60)), "PNG"))
    batch = spec.batch([view, view])
    expected = (view.astype(np.float32) / 255 - np.float32([0.1, 0.2, 0.3])) / np.float32([0.5, 0.25, 0.75])
    assert batch.dtype == np.float32
    assert batch.shape == (2, *spec.shape)
    np.testing.assert_array_equal(batch[1], expected.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (b"hello", "no image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, "damaged|no image"),
        (_encoded(_picture((90, 60)), "JPEG")[:600], "damaged"),
        (_encoded(_picture((90, 60)), "PNG")[:900], "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"P6\n20000 20000\n255\n", "pixels"),
        (b"P6\n0 5\n255\n", "damaged|no image|pixels"),
    ],
)
def test_what_is_no_image_is_said_so(data: bytes, said: str) -> None:
    with pytest.raises(ImageRefused, match=said):
        decode(data, 48)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    side = int(MOST_PIXELS**0.5) + 1
    with pytest.raises(ImageRefused, match="pixels"):
        decode(b"P5\n%d %d\n255\n" % (side, side), 48)


def test_the_description_comes_back() -> None:
    for spec in (
        SPEC,
        Preprocessing(8, 8, "float32", (0.1, 0.2, 1 / 3), (0.5, 0.25, 1e-3), {"float": (0.0, 1.0)}),
    ):
        assert from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["resize"].update(side=10),
        lambda d: d["resize"].update(side=1 << 20),
        lambda d: d["resize"].update(side="48"),
        lambda d: d["resize"].update(filter="bilinear"),
        lambda d: d["crop"].update(size=0),
        lambda d: d["input"].update(dtype="float32"),
        lambda d: d["input"].update(mean=["0.1"]),
        lambda d: d["decode"].update(levels={"integer": ["0", "nan"]}),
        lambda d: d["decode"].update(levels={"integer": ["5.0", "1.0"]}),
        lambda d: d["decode"].update(levels={"other": ["0.0", "1.0"]}),
        lambda d: d.update(version=2),
        lambda d: d.update(more=1),
        lambda d: d.pop("input"),
    ],
)
def test_descriptions_of_steps_that_are_not_known(edit: Any) -> None:
    found = SPEC.to_json()
    edit(found)
    with pytest.raises(BundleRefused, match="preprocess"):
        from_json(found)
    with pytest.raises(BundleRefused, match="preprocess"):
        from_json([found])
