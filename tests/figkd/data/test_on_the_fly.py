"""Images decoded on the fly: the same pixels as the packed store, bad files found beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from figkd.data import SPLITS, facts, open_split, prepare
from figkd.data.logits import cache_logits
from figkd.data.on_the_fly import FileImages
from figkd.data.views import make_views
from figkd.errors import DataError
from figkd.evaluate import centre_crop, predict
from figkd.files import write_json
from figkd.loss.build import build_loss
from figkd.models import ImageClassifier
from figkd.train import train

ODD = {"a/1.png": "zero bytes", "b/2.png": "truncated"}


def _tree(root: Path, count: int = 9) -> None:
    """JPEG and PNG, wide and tall, grey, CMYK and rotated; two files are broken."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir(parents=True)
        for index in range(count):
            picture = Image.fromarray(rng.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8))
            if index == 4:
                picture = picture.convert("CMYK")
            elif index == 5:
                picture = picture.convert("L")
            path = root / name / f"{index}.{'jpg' if index >= 3 else 'png'}"
            exif = Image.Exif()
            exif[0x0112] = 6 if index == 6 else 1
            picture.save(path, exif=exif)
    (root / "a/1.png").write_bytes(b"no image")
    data = (root / "b/2.png").read_bytes()
    (root / "b/2.png").write_bytes(data[: len(data) // 2])


def _prepare(root: Path, out: Path, decode: Any) -> dict[str, Any]:
    return prepare(
        "image_folder", root, out, image_size=8, store_size=10, val_fraction=0.25, seed=1, decode=decode
    )


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """The same tree, packed and listed."""
    _tree(tmp_path / "root")
    _prepare(tmp_path / "root", tmp_path / "packed", "ahead")
    _prepare(tmp_path / "root", tmp_path / "listed", "on_the_fly")
    return tmp_path / "packed", tmp_path / "listed"


def test_the_same_data_by_both_ways(both: tuple[Path, Path]) -> None:
    """Protects the fallback: pixels, labels, ids, statistics and skipped files are those of the packed store."""
    packed, listed = both
    assert not list(listed.glob("train.npy"))
    said = facts(listed)
    assert said.pop("decode") == "on_the_fly"
    assert said == facts(packed)
    assert {entry["file"] for entry in said["skipped"]} == set(ODD)
    for name in SPLITS:
        one, other = open_split(packed, name), open_split(listed, name)
        assert isinstance(other.images, FileImages)
        np.testing.assert_array_equal(np.array(other.images), one.images)
        np.testing.assert_array_equal(other.labels, one.labels)
        assert other.ids == one.ids


def test_deep_images_have_one_rule_by_both_ways(tmp_path: Path) -> None:
    """Protects 12-bit data: dark and bright images share a scale, which data.json keeps for later decoding."""
    root = tmp_path / "root"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for index in range(9):
            values = np.full((12, 12), 200 if index % 3 else 4000, np.uint16)
            values[:6] = 200
            values[0, 11] = 201 + index + 20 * ord(name)  # no two alike
            Image.fromarray(values).save(root / name / f"{index}.png")
    Image.new("RGBA", (24, 24), (9, 9, 9, 0)).save(root / "a" / "clear.png")
    said = _prepare(root, tmp_path / "packed", "ahead")
    assert _prepare(root, tmp_path / "listed", "on_the_fly")["decoding"] == said["decoding"]
    assert said["decoding"] == {
        "levels": {"integer": [0, 4095]},
        "remarks": {
            "invisible": {"images": 1, "example": "a/clear.png"},
            "scaled_to_8_bits": {
                "images": 18,
                "example": said["decoding"]["remarks"]["scaled_to_8_bits"]["example"],
            },
        },
    }
    for name in SPLITS:
        packed, listed = (open_split(tmp_path / folder, name) for folder in ("packed", "listed"))
        np.testing.assert_array_equal(np.array(listed.images), packed.images)
        deep = [index for index, of in enumerate(packed.ids) if "clear" not in of]
        assert (packed.images[deep, 0, 0] == round(200 / 4095 * 255)).all()
    damaged = facts(tmp_path / "listed") | {"decoding": {"levels": {"integer": [5, 5]}}}
    write_json(tmp_path / "listed" / "data.json", damaged)
    with pytest.raises(DataError, match="cannot read the train split"):
        open_split(tmp_path / "listed", "train")


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        slice(1, 4),
        slice(None, None, 2),
        np.array([3, 0, 3]),
        np.array([[0, 1], [2, 3]]),
        np.arange(9) % 2 == 0,
        (slice(0, 2), slice(1, 3)),
        (np.array([1, 2]), slice(None), 0),
        (slice(None), 0, 0, 0),
        slice(4, 4),
    ],
    ids=str,
)
def test_indices_mean_what_they_mean_to_numpy(both: tuple[Path, Path], key: Any) -> None:
    """Protects consumers: rows come as from an array, in the order asked for."""
    one, other = (open_split(folder, "train").images for folder in both)
    assert len(one) == 9
    found = other[key]
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, one[key])


def test_facts_of_the_array(both: tuple[Path, Path]) -> None:
    """Protects what consumers ask before they read, and that a crop of everything reads nothing."""
    one, other = (open_split(folder, "train").images for folder in both)
    for name in ("shape", "dtype", "ndim", "nbytes"):
        assert getattr(other, name) == getattr(one, name), name
    crop = centre_crop(other, 8)
    assert isinstance(crop, FileImages)
    assert crop.shape == (9, 8, 8, 3)
    np.testing.assert_array_equal(crop[2:5], centre_crop(one, 8)[2:5])
    np.testing.assert_array_equal(crop.astype(np.float32), centre_crop(one, 8))
    with pytest.raises(IndexError, match="rows first"):
        other[..., 0]


def test_training_is_the_same_to_the_bit(both: tuple[Path, Path], tmp_path: Path) -> None:
    """Protects training, evaluation and the logit cache: none of them can tell the two apart."""
    views = make_views("shift_flip", image_size=8, store_size=10, pad=1)
    students, outputs, caches = [], [], []
    for folder in both:
        torch.manual_seed(0)
        model = ImageClassifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)))
        split = open_split(folder, "train")
        train(model, split, loss=build_loss("ce", 2), views=views, epochs=3, batch_size=4, lr=0.01)
        students.append(model.state_dict())
        outputs.append(predict(model, open_split(folder, "test").images, image_size=8))
        path = cache_logits(model, split.images, views, tmp_path / f"{folder.name}.npy", batch_size=4)
        caches.append((path.read_bytes(), path.with_name(path.name + ".json").read_bytes()))
    assert all(torch.equal(value, students[1][name]) for name, value in students[0].items())
    np.testing.assert_array_equal(*outputs)
    assert caches[0] == caches[1]


def test_files_that_are_gone_are_named(both: tuple[Path, Path], tmp_path: Path) -> None:
    """Protects a user who moved the images: the file, or the folder, and what to do."""
    images = open_split(both[1], "train").images
    for path in (tmp_path / "root").rglob("*.*"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"/root/a/.*could be decoded when the data were prepared.*No such file"
    ):
        np.array(images)
    for folder in ("a", "b", "."):
        (tmp_path / "root" / folder).rmdir()
    with pytest.raises(DataError, match=r"not in .*root any more"):
        open_split(both[1], "train")


def test_damage_is_said(both: tuple[Path, Path]) -> None:
    """Protects readers: a damaged list is a DataError."""
    (both[1] / "train_files.json").write_text("[{}]")
    with pytest.raises(DataError, match="cannot read the train split"):
        open_split(both[1], "train")


def test_rendered_data_has_no_files(tmp_path: Path) -> None:
    """Protects the choice: fonts are rendered, there is nothing to decode later."""
    with pytest.raises(DataError, match="no files to decode on the fly"):
        prepare("fonts", None, tmp_path / "x", image_size=8, store_size=8, decode="on_the_fly")
