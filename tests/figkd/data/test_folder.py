"""A user's own folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figkd.data import class_names, examine, open_split, prepare, source_files
from figkd.errors import DataError
from tests.figkd.data.examined import check

# Folders of images differ in their blue part, so that none holds copies of another's images.
_SHADE: dict[str, int] = {"root": 0, "train": 1, "val": 2, "test": 3}


def _tree(folder: Path, classes: str = "ab", count: int = 10) -> None:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            colour = (label * 100, index, _SHADE.setdefault(folder.name, len(_SHADE)))
            Image.new("RGB", (12, 10), colour).save(folder / name / f"{index}.png")


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
    counts = said["counts"]
    assert sum(counts.values()) == 20 and min(counts.values()) >= 2  # type: ignore[attr-defined]
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
    assert len(ids["val"]) >= 2
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
    (tmp_path / "root" / "a" / "4.png").write_bytes(b"junk")
    (tmp_path / "root" / "a" / "notes.txt").write_text("not an image")
    said = _prepare(tmp_path / "root", tmp_path / "out")
    assert [(entry["file"], entry["reason"]) for entry in said["skipped"]] == [  # type: ignore[attr-defined]
        ("a/4.png", "not an image that can be identified")
    ]
    assert said["left_out"] == {
        "empty": {"count": 1, "examples": ["a/3.png"]},
        "not_image": {"count": 1, "examples": ["a/notes.txt"]},
    }
    assert sum(len(found) for found in _ids(tmp_path / "out").values()) == 18


def test_mostly_broken_data_is_an_error(tmp_path: Path) -> None:
    """Protects against training on the rest of a failed download; nothing is left behind."""
    _tree(tmp_path / "root")
    for number, file in enumerate((tmp_path / "root").rglob("*.png")):
        file.write_bytes(b"junk %d" % number)
    with pytest.raises(DataError, match="cannot be decoded"):
        _prepare(tmp_path / "root", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_problems_are_said(tmp_path: Path) -> None:
    """Protects preflight: each kind of wrong tree has its message."""
    assert "needs a root" in check("image_folder", None)[0]
    assert "there is no folder" in check("image_folder", tmp_path / "gone")[0]
    (tmp_path / "empty").mkdir()
    assert "has no images" in check("image_folder", tmp_path / "empty")[0]
    _tree(tmp_path / "few", count=2)
    assert "2 of 2 classes have fewer than 3 different images" in check("image_folder", tmp_path / "few")[0]
    _tree(tmp_path / "extra" / "train")
    _tree(tmp_path / "extra" / "test", classes="abz")
    assert "classes in test that are not in train: z" in check("image_folder", tmp_path / "extra")[0]
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
        path.write_bytes(b"junk" + path.name.encode())
    with pytest.raises(DataError, match="no training image of c can be decoded"):
        _prepare(tmp_path / "images", tmp_path / "out")


def test_a_class_without_images_is_not_forgotten(tmp_path: Path) -> None:
    """Protects the number of classes: such folders are refused with the reason, or left out."""
    _tree(tmp_path / "root")
    (tmp_path / "root" / "e").mkdir()
    (tmp_path / "root" / "c").mkdir()
    for index in range(3):
        (tmp_path / "root" / "c" / f"{index}.png").symlink_to("/nonexistent")
    (problem,) = check("image_folder", tmp_path / "root")
    assert "c (0; left out: 3 x link to nothing), e (0)" in problem and "small_classes: leave_out" in problem
    said = _prepare(tmp_path / "root", tmp_path / "out", small_classes="leave_out")
    assert class_names(tmp_path / "out") == ["a", "b"]
    assert said["left_out"]["small_class"] == {"count": 0, "examples": ["c", "e"]}  # type: ignore[index]


def test_what_a_given_split_lacks_is_told(tmp_path: Path) -> None:
    """Protects: a class that test never shows."""
    _tree(tmp_path / "root" / "train", classes="abc")
    _tree(tmp_path / "root" / "test")
    said = _prepare(tmp_path / "root", tmp_path / "out")
    assert said["notes"] == ["test has no images of c"]


@pytest.mark.parametrize("key", ["left_out", "copies"])
def test_the_account_is_in_data_json(tmp_path: Path, key: str) -> None:
    """Protects: also where there is nothing to tell."""
    _tree(tmp_path / "root")
    assert key in _prepare(tmp_path / "root", tmp_path / "out")


def test_the_fix_is_that_of_what_was_left_out(tmp_path: Path) -> None:
    """Protects a folder of raw files or links from the advice to put images into folders, where they are."""
    for name in "ab":
        (tmp_path / "raw" / name).mkdir(parents=True)
        for index in range(4):
            Image.new("L", (4, 4)).save(tmp_path / "raw" / name / f"{index}.nef", "TIFF")
            (tmp_path / "raw" / name / f"{index}.jpg").symlink_to("/nonexistent")
    with pytest.raises(DataError, match=r"no images \(left out: 8 x ") as caught:
        examine("image_folder", tmp_path / "raw").found()
    assert "install its library" in caught.value.fix and "mount what it points to" in caught.value.fix
    assert "folder of its own" not in caught.value.fix
    _tree(tmp_path / "raw", "cd", count=4)
    with pytest.raises(DataError, match=r"2 of 4 classes have fewer .*: a \(0; left out: ") as caught:
        examine("image_folder", tmp_path / "raw").found()
    assert "install its library" in caught.value.fix and "small_classes: leave_out" in caught.value.fix
