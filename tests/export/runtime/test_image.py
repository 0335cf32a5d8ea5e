"""Protects: an encoded image reaches the engine as the same pixels that the model is evaluated on."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.engines import BACKENDS
from export.errors import ExportError
from export.runtime.image import classify, decode, evaluation_view, image_to_class, time_image_to_class


def encode(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def test_a_stored_size_image_is_only_cropped() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    view = evaluation_view(decode(encode(pixels), 40), 40, 32)
    np.testing.assert_array_equal(view, pixels[4:36, 4:36])


def test_the_centre_square_is_kept() -> None:
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, 40:80] = 255
    # Bicubic resampling looks two pixels beyond the square.
    assert evaluation_view(decode(encode(pixels), 20), 20, 16).min() > 250
    tall = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    assert evaluation_view(decode(encode(tall), 20), 20, 16).min() > 250


def test_orientation_is_applied() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # rotated by half a turn
    view = evaluation_view(decode(encode(pixels, exif=exif), 32), 32, 32)
    assert view[:16].max() == 0 and view[16:].min() == 255


def test_transparency_is_white_and_grey_is_rgb() -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    assert evaluation_view(decode(encode(clear), 8), 8, 8).min() == 255
    grey = np.full((8, 8), 77, np.uint8)
    view = evaluation_view(decode(encode(grey), 8), 8, 8)
    assert view.shape == (8, 8, 3) and (view == 77).all()
    deep = np.full((8, 8), 77 * 257, np.uint16)
    assert (evaluation_view(decode(encode(deep), 8), 8, 8) == 77).all()


def test_bad_input_is_one_error() -> None:
    with pytest.raises(ExportError, match="cannot be decoded"):
        decode(b"no image", 8)
    with pytest.raises(ExportError, match="does not fit"):
        evaluation_view(Image.new("RGB", (8, 8)), 8, 9)


def test_timed_path_has_its_steps(files: Any) -> None:
    engine = BACKENDS["onnxruntime"].load(files.fp32, threads=1)
    encoded = [encode(image) for image in files.images[:3]]
    query = image_to_class(engine, encoded, 32, 32)
    samples = time_image_to_class(query, warmup_s=0.0, min_samples=12, max_seconds=60.0)
    steps = ("decode", "resize", "infer", "argmax")
    assert samples.boundary == "image_to_class" and set(samples.arrays) == {"latency", *steps}
    np.testing.assert_allclose(sum(samples.arrays[step] for step in steps), samples.latency, rtol=1e-9)
    assert len(samples.latency) == 12
    with pytest.raises(ExportError, match="no encoded images"):
        image_to_class(engine, [], 32, 32)


def test_classes_are_those_of_the_raw_images(files: Any) -> None:
    engine = BACKENDS["onnxruntime"].load(files.fp32, threads=1)
    expected = engine.infer(files.images[:10]).argmax(1)
    assert [classify(engine, encode(image), 32, 32) for image in files.images[:10]] == expected.tolist()
