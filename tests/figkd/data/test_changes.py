"""What is said of two versions of a data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figkd.data import examine, prepare, settled
from figkd.data.changes import Changes, changes
from figkd.data.settle import Settled


def _image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of 40 images, prepared."""
    for label, name in enumerate("abc"):
        for index in range(40):
            _image(tmp_path / "root" / name / f"{index:02d}.png", 100 * label + index)
    (tmp_path / "root/a/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n junk")
    prepare("image_folder", tmp_path / "root", tmp_path / "before", image_size=8, store_size=8)
    return tmp_path / "root"


def _settled(root: Path, seed: int = 0) -> Settled:
    found = examine("image_folder", root).found()
    assert found is not None
    return settled(found, seed=seed)


def _changes(root: Path) -> Changes:
    found = changes(root.parent / "before", _settled(root))
    assert found is not None
    return found


def test_nothing_changed(root: Path) -> None:
    """Protects: silence, also about what could not be decoded before."""
    assert _changes(root).sentences() == []


def test_growing_data_keep_their_test_images(root: Path) -> None:
    """Protects comparable reports: images and a class that come in move no test image."""
    for index in range(100, 130):
        _image(root / "b" / f"{index}.png", index + 7000)
        _image(root / "aa" / f"{index}.png", index + 8000)
    found = _changes(root)
    assert found.added == {"aa": 30, "b": 30} and not found.removed and not found.changed
    assert found.classes_added == ("aa",)
    assert found.tested == found.test_kept > 12 and found.into_train == 0
    assert found.sentences() == [
        "60 images added (30 aa, 30 b)",
        "classes added: aa",
        f"{found.tested} of the {found.tested} old test images are test images still",
    ]


def test_what_went_and_what_changed(root: Path) -> None:
    """Protects: removed, changed under the same name, moved to another class, a class that is gone, a renamed file."""
    for index in range(5):
        (root / "a" / f"{index:02d}.png").unlink()
    _image(root / "b/00.png", 12345)
    shutil.move(root / "b/01.png", root / "a/moved.png")
    shutil.move(root / "b/02.png", root / "b/renamed.png")
    shutil.rmtree(root / "c")
    found = _changes(root)
    assert found.removed == {"a": 5, "b": 1, "c": 40}
    assert found.added == {"a": 1} and found.changed == {"b": 1}
    assert found.classes_removed == ("c",)


def test_an_image_that_moves_to_train_is_told(root: Path) -> None:
    """Protects: another seed moves test images, and that is said."""
    found = changes(root.parent / "before", _settled(root, seed=5))
    assert found is not None and 0 < found.into_train <= found.tested - found.test_kept
    assert "are trained on now" in found.sentences()[-1]


def test_data_of_an_earlier_version(root: Path) -> None:
    """Protects old stores: nothing is said where the contents were not written down."""
    (root.parent / "before/val_contents.json").unlink()
    assert changes(root.parent / "before", _settled(root)) is None
