"""Tiny ImageNet in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from figkd.data import class_names
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import given, labels_and_ids, lines, picture, prepared

IDS = ["n02124075", "n01443537", "n03042490", "n09246464"]
"""As in wnids.txt: not sorted."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 training and 2 validation images a class; two classes share a name, as in the published words.txt."""
    root = tmp_path / "tiny-imagenet-200"
    lines(root / "wnids.txt", *IDS)
    lines(
        root / "words.txt",
        "n00001740\tentity",
        "n01443537\tgoldfish, Carassius auratus",
        "n02124075\tEgyptian cat",
        "n03042490\tcliff",
        "n09246464\tcliff, drop, drop-off",
    )
    rows = []
    for key in IDS:
        for index in (0, 1, 2, 10):
            picture(root / "train" / key / "images" / f"{key}_{index}.JPEG")
        lines(root / "train" / key / f"{key}_boxes.txt", f"{key}_0.JPEG\t0\t10\t63\t58")
    for index in range(8):
        picture(root / "val" / "images" / f"val_{index}.JPEG")
        rows.append(f"val_{index}.JPEG\t{IDS[index % 4]}\t0\t32\t44\t62")
    lines(root / "val" / "val_annotations.txt", *rows)
    picture(root / "test" / "images" / "test_0.JPEG")
    return root


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects: the published validation set is the test split, labels follow the sorted ids, names are unique."""
    said = prepared("tiny_imagenet", root.parent, tmp_path / "out")
    assert given(said) == {"train": 16, "test": 8}
    assert class_names(tmp_path / "out") == [
        "goldfish",
        "Egyptian cat",
        "cliff (n03042490)",
        "cliff (n09246464)",
    ]
    found = labels_and_ids(tmp_path / "out", "test")
    assert found[:4] == [(1, "val/images/val_0.JPEG"), (0, "val/images/val_1.JPEG"),
                         (2, "val/images/val_2.JPEG"), (3, "val/images/val_3.JPEG")]  # fmt: skip
    train = labels_and_ids(tmp_path / "out", "train") + labels_and_ids(tmp_path / "out", "val")
    assert len(train) == 16
    assert all(name.startswith("train/n") for _, name in train)


def test_missing_and_malformed(root: Path, tmp_path: Path) -> None:
    """Protects: a class that wnids.txt does not have, a tree whose val/ was sorted into folders, a missing class."""
    lines(root / "val" / "val_annotations.txt", "val_0.JPEG\tn00000000\t0\t0\t1\t1")
    with pytest.raises(DataError, match=r"'n00000000' of val_0\.JPEG is not in wnids\.txt"):
        prepared("tiny_imagenet", root, tmp_path / "out")
    (root / "train" / "n01443537").rename(root / "elsewhere")
    assert "lacks train/n01443537/images/" in check("tiny_imagenet", root)[0]
    (root / "val" / "images").rename(root / "val" / "n01443537")
    problem = check("tiny_imagenet", root)[0]
    assert "lacks val/images/; figkd-pipeline download tiny_imagenet ROOT" in problem
    assert "<root>/val/images/val_0.JPEG" in problem
