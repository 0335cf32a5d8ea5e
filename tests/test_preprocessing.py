"""Training and measurement prepare an image alike, though neither package knows the other."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.runtime.bundle.preprocess import Preprocessing
from figkd.data.decode import decode_square
from figkd.data.levels import UNSEEN, Kind, Levels, as_json
from figkd.evaluate import centre_crop


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "jpg"), ("L", "jpg"), ("RGB", "png"), ("P", "png"), ("RGBA", "png")]
)
@pytest.mark.parametrize("size", [(90, 60), (61, 97), (48, 48), (20, 30)])
def test_the_two_roads_give_the_same_pixels(
    mode: str, suffix: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """Wrong preprocessing on the device is the costliest silent fault; here both sides are compared bit for bit."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "png": "PNG"}[suffix])
    path = tmp_path / f"image.{suffix}"
    path.write_bytes(buffer.getvalue())
    trained = centre_crop(decode_square(path, 48)[None], 40)[0]
    measured = Preprocessing(48, 40).view(buffer.getvalue())
    np.testing.assert_array_equal(measured, trained)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_deep_images_are_scaled_alike(dtype: str, tmp_path: Path) -> None:
    """The data set's rule for deep images holds both ways, and so does the one without a data set."""
    values = np.random.default_rng(0).integers(0, 5000, (60, 90)).astype(dtype)
    path = tmp_path / "image.tif"
    Image.fromarray(values).save(path)
    kind: Kind = "float" if dtype == "float32" else "integer"
    for levels in (Levels(0, 4095), UNSEEN[kind]):
        trained = centre_crop(decode_square(path, 48, rules={kind: levels})[None], 40)[0]
        rule = {of: (low, high) for of, (low, high) in as_json({kind: levels}).items()}
        measured = Preprocessing(48, 40, levels=rule).view(path.read_bytes())
        np.testing.assert_array_equal(measured, trained)
    unsaid = Preprocessing(48, 40).view(path.read_bytes())
    np.testing.assert_array_equal(unsaid, trained)
