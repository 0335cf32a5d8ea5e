"""Splits or classes: what is certain is decided, what is not is asked."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from figkd.data.layout import read_layout
from figkd.data.tree import walk
from figkd.errors import DataError
from tests.needs import unicode_names


def _tree(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        if not folder.endswith("/"):
            for index in range(2):
                (root / folder / f"{index}.png").write_bytes(b"x")
    return root


def _read(root: Path, layout: str = "auto") -> dict[str, list[str]]:
    return {split: sorted(classes) for split, classes in read_layout(walk(root), layout).splits.items()}


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train/a", "train/b", "valid/a", "valid/b", "test/a"), {"train": "ab", "val": "ab", "test": "a"}),
        (("training/a", "training/b", "validation/a"), {"train": "ab", "val": "a"}),
        (("Train/a", "Train/b", "Test/a"), {"train": "ab", "test": "a"}),
        (("TRAIN/a", "TRAIN/b", "dev/a", "holdout/a"), {"train": "ab", "val": "a", "test": "a"}),
        (("train_set/a", "train_set/b", "test-images/a"), {"train": "ab", "test": "a"}),
        (("train2017/a", "train2017/b", "val2017/a"), {"train": "ab", "val": "a"}),
        (("train/a", "train/b", "eval/a"), {"train": "ab", "test": "a"}),
        (("train/a", "train/b", "eval/a", "test/a"), {"train": "ab", "val": "a", "test": "a"}),
        (("data/set/train/a", "data/set/train/b"), {"train": "ab"}),
        (("images/a", "images/b", "labels/"), {"train": "ab"}),
        (("train/a/x", "train/a/y", "train/b"), {"train": "ab"}),
        (("train/a", "train/b", "labels/"), {"train": "ab"}),
        (("a/train", "a/test", "b/train", "b/test"), {"train": "ab", "test": "ab"}),
        (("a", "b", "train"), {"train": ["a", "b", "train"]}),
        (("dev", "a", "test"), {"train": ["a", "dev", "test"]}),
        (("a/1", "a/2", "b/1"), {"train": "ab"}),
        (("test tube", "training shoe"), {"train": ["test tube", "training shoe"]}),
        (("train/a", "train/b", "test"), {"train": "ab"}),
    ],
)  # fmt: skip
def test_what_is_certain(tmp_path: Path, folders: tuple[str, ...], splits: dict[str, list[str]]) -> None:
    """Protects ordinary folders, in the words that exporters use: the task is the one that was meant."""
    assert _read(_tree(tmp_path, *folders)) == {split: list(names) for split, names in splits.items()}


@pytest.mark.parametrize(
    ("folders", "classes", "splits"),
    [
        (("train/a", "train/b", "bus/a"), ["bus", "train"], "ab"),
        (("train/steam", "bus", "car"), ["bus", "car", "train"], ["steam"]),
        (("train/a", "train/b", "val/a", "old/a"), ["old", "train", "val"], "ab"),
        (("train", "test"), ["test", "train"], None),
        (("val/a", "val/b", "test/a"), ["test", "val"], None),
        (("a/train", "b/train", "c"), ["a", "b", "c"], None),
        (("a/train/x", "a/test/x", "b/train/y"), ["a", "b"], None),
    ],
)
def test_two_readings_are_told(
    tmp_path: Path, folders: tuple[str, ...], classes: list[str], splits: list[str] | None
) -> None:
    """Protects the task: an ambiguous tree is refused with both readings, and the option settles it."""
    _tree(tmp_path, *folders)
    with pytest.raises(
        DataError, match=r"two readings.*Either .* splits.*or every folder is a class"
    ) as caught:
        _read(tmp_path)
    assert caught.value.fix == "set data.options.layout to splits or to classes"
    assert _read(tmp_path, "classes") == {"train": classes}
    if splits is not None:
        assert _read(tmp_path, "splits")["train"] == list(splits)


@pytest.mark.parametrize(
    "folders",
    [
        ("Trainingsdaten/a", "Trainingsdaten/b", "Testdaten/a", "Testdaten/b"),
        ("fold1/a", "fold1/b", "fold1/c", "fold2/a", "fold2/b"),
        ("x/all/2023/a", "x/all/2023/b", "x/all/2024/a", "x/all/2024/b"),
    ],
)
def test_parts_whose_names_are_no_split_words(tmp_path: Path, folders: tuple[str, ...]) -> None:
    """Protects the task in every language: folders that hold the same folders are not classes without a word."""
    _tree(tmp_path, *folders)
    with pytest.raises(DataError, match="hold folders of the same names: a, b") as caught:
        _read(tmp_path)
    assert "name them train, val and test" in caught.value.fix
    assert "set data.options.layout: classes" in caught.value.fix
    assert len(_read(tmp_path, "classes")["train"]) == 2


@pytest.mark.parametrize(
    "folders",
    [
        ("cat/raw", "dog/raw"),
        ("pets/cat", "pets/dog", "cars/bmw", "cars/audi"),
        ("cat/left", "cat/right", "cat", "dog/left", "dog/right"),
        tuple(f"class_{label:02d}/{side}" for label in range(11) for side in ("left", "right")),
    ],
)
def test_folders_inside_of_classes_stay_theirs(tmp_path: Path, folders: tuple[str, ...]) -> None:
    """Protects the other side: what cannot be parts of one set is read as classes, as before."""
    assert set(_read(_tree(tmp_path, *folders))) == {"train"}


def test_two_names_of_one_split(tmp_path: Path) -> None:
    """Protects: neither of val and validation is dropped."""
    with pytest.raises(DataError, match="val and validation both mean val"):
        _read(_tree(tmp_path, "train/a", "train/b", "val/a", "validation/a"))
    with pytest.raises(DataError, match="layout is 'x'"):
        _read(tmp_path, "x")


def test_images_beside_the_class_folders(tmp_path: Path) -> None:
    """Protects: images without a class are counted, at the root and in a split; so is a folder beside the splits."""
    _tree(tmp_path, "", "train", "train/a", "train/b", "other/a")
    found = read_layout(walk(tmp_path), "splits")
    assert {(entry.place, entry.count) for entry in found.beside} == {
        ("0.png", 1), ("1.png", 1), ("train/0.png", 1), ("train/1.png", 1), ("other/", 2),
    }  # fmt: skip


def test_conclusions_are_told(tmp_path: Path) -> None:
    """Protects: a wrapper that was passed, folders inside of classes, a test folder without classes."""
    wrapped = read_layout(walk(_tree(tmp_path / "1", "data/a", "data/b")), "auto")
    assert wrapped.notes == ["the classes are looked for in data/, the only folder with images"]
    nested = read_layout(walk(_tree(tmp_path / "2", "pets/cat", "pets/dog", "cars/bmw")), "auto")
    assert "cat, dog" in nested.notes[0]
    unlabelled = read_layout(walk(_tree(tmp_path / "3", "train/a", "train/b", "test")), "auto")
    assert "no test split is given" in unlabelled.notes[0] and len(unlabelled.beside) == 2


@unicode_names
def test_accents_in_two_forms(tmp_path: Path) -> None:
    """Protects a class whose name one system wrote composed and the other taken apart."""
    names = {unicodedata.normalize(form, "café") for form in ("NFC", "NFD")}
    assert len(names) == 2
    composed, apart = sorted(names, key=len)
    assert _read(_tree(tmp_path, f"train/{composed}", "train/b", f"test/{apart}")) == {
        "train": ["b", composed],
        "test": [composed],
    }
