"""A user's own folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figkd.data import check, class_names, open_split, prepare, source_files
from figkd.errors import DataError


def _tree(folder: Path, classes: str = "ab", count: int = 10) -> None:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (12, 10), (label * 100, index, 0)).save(folder / name / f"{index}.png")


def _ids(folder: Path) -> dict[str, set[str]]:
    return {name: set(open_split(folder, name).ids) for name in ("train", "val", "test")}  # type: ignore[arg-type]


def _prepare(root: Path, out: Path, **options: object) -> dict[str, object]:
    return prepare(
        "image_folder", root, out, image_size=8, store_size=8, val_fraction=0.25, seed=1, options=options
    )


def test_flat_tree(tmp_path: Path) -> None:
    """Protects the seeded three-way split: disjoint, complete, stratified, repeatable, labels right."""
    _tree(tmp_path / "root")
    said = _prepare(tmp_path / "root", tmp_path / "a", test_fraction=0.2)
    _prepare(tmp_path / "root", tmp_path / "b", test_fraction=0.2)
    assert said["counts"] == {"train": 12, "val": 4, "test": 4}
    ids = _ids(tmp_path / "a")
    assert len(set.union(*ids.values())) == 20
    assert ids == _ids(tmp_path / "b")
    for name in ("train", "val", "test"):
        split = open_split(tmp_path / "a", name)  # type: ignore[arg-type]
        assert np.array_equal(split.labels * 100, split.images[:, 0, 0, 0])
        assert [name.split("/")[0] for name in split.ids] == ["ab"[label] for label in split.labels]
    assert class_names(tmp_path / "a") == ["a", "b"]
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_given_splits_are_kept(tmp_path: Path) -> None:
    """Protects official splits: nothing moves between given folders; a missing val comes out of train."""
    _tree(tmp_path / "root" / "train")
    _tree(tmp_path / "root" / "test", count=3)
    _prepare(tmp_path / "root", tmp_path / "a")
    ids = _ids(tmp_path / "a")
    assert ids["test"] == {f"test/{name}/{index}.png" for name in "ab" for index in range(3)}
    assert len(ids["val"]) == 4
    assert ids["train"] | ids["val"] == {f"train/{name}/{index}.png" for name in "ab" for index in range(10)}
    _tree(tmp_path / "root" / "val", count=2)
    _prepare(tmp_path / "root", tmp_path / "b")
    assert {name: len(found) for name, found in _ids(tmp_path / "b").items()} == {
        "train": 20,
        "val": 4,
        "test": 6,
    }


def test_broken_images_are_listed(tmp_path: Path) -> None:
    """Protects the record: what was left out is in data.json with its reason, the rest is there."""
    _tree(tmp_path / "root")
    (tmp_path / "root" / "a" / "3.png").write_bytes(b"")
    (tmp_path / "root" / "a" / "notes.txt").write_text("not an image")
    said = _prepare(tmp_path / "root", tmp_path / "out")
    assert said["skipped"] == [{"split": "train", "file": "a/3.png", "reason": "empty file"}]
    assert sum(len(found) for found in _ids(tmp_path / "out").values()) == 19


def test_mostly_broken_data_is_an_error(tmp_path: Path) -> None:
    """Protects against training on the rest of a failed download; nothing is left behind."""
    _tree(tmp_path / "root")
    for file in (tmp_path / "root").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be decoded"):
        _prepare(tmp_path / "root", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_problems_are_said(tmp_path: Path) -> None:
    """Protects preflight: each kind of wrong tree has its message."""
    assert "needs a root" in check("image_folder", None)[0]
    assert "there is no folder" in check("image_folder", tmp_path / "gone")[0]
    (tmp_path / "empty").mkdir()
    assert "0 class(es)" in check("image_folder", tmp_path / "empty")[0]
    _tree(tmp_path / "few", count=2)
    assert "too few to split: a, b" in check("image_folder", tmp_path / "few")[0]
    _tree(tmp_path / "extra" / "train")
    _tree(tmp_path / "extra" / "test", classes="abz")
    assert "not in train/: z" in check("image_folder", tmp_path / "extra")[0]
    _tree(tmp_path / "good")
    assert check("image_folder", tmp_path / "good") == []
    assert "test_fraction" in check("image_folder", tmp_path / "good", {"test_fraction": 1.5})[0]
    with pytest.raises(DataError, match="there is no folder"):
        _prepare(tmp_path / "gone", tmp_path / "out")


def test_sources(tmp_path: Path) -> None:
    """Protects the content hash: every image counts, other files do not."""
    _tree(tmp_path / "root", count=3)
    (tmp_path / "root" / "readme.txt").touch()
    found = source_files("image_folder", tmp_path / "root")
    assert [file.name for file in found] == ["0.png", "1.png", "2.png"] * 2
    assert source_files("image_folder", tmp_path / "gone") == []


def test_unknown_data_set(tmp_path: Path) -> None:
    """Protects the registry's messages and the size check."""
    assert "unknown data set 'nosuch'" in check("nosuch", None)[0]
    with pytest.raises(DataError, match="unknown data set"):
        prepare("nosuch", None, tmp_path / "x", image_size=8, store_size=8)
    with pytest.raises(DataError, match="store_size 7"):
        prepare("fonts", None, tmp_path / "x", image_size=8, store_size=7)


def test_a_class_that_nobody_can_see_is_an_error(tmp_path: Path) -> None:
    """Protects against shipping a class that no training image ever showed."""
    _tree(tmp_path / "images", classes="abc")
    for path in (tmp_path / "images" / "c").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="no training image of c can be decoded"):
        _prepare(tmp_path / "images", tmp_path / "out")
