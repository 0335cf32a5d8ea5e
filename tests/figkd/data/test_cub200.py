"""CUB-200-2011 in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from figkd.data import class_names, prepare, source_files
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import RED, given, labels_and_ids, lines, only, picture, prepared

CLASSES = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "010.Red_winged_Blackbird"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 training and 2 test images of each of 3 birds, in folders numbered as published; ids count from 1."""
    folder = tmp_path / "birds" / "CUB_200_2011"
    images, labels, training, boxes = [], [], [], []
    for label, name in enumerate(CLASSES, 1):
        for index in range(6):
            key = len(images) + 1
            file = f"{name}/{name[4:]}_{index:04d}_{790000 + key}.jpg"
            picture(folder / "images" / file, RED, (10, 20, 30, 40))
            images.append(f"{key} {file}")
            labels.append(f"{key} {label}")
            training.append(f"{key} {int(index < 4)}")
            boxes.append(f"{key} 10.0 20.0 20.0 20.0")
    lines(folder / "images.txt", *images)
    lines(folder / "image_class_labels.txt", *labels)
    lines(folder / "train_test_split.txt", *training)
    lines(folder / "bounding_boxes.txt", *boxes)
    lines(folder / "classes.txt", *(f"{label} {name}" for label, name in enumerate(CLASSES, 1)))
    return folder.parent


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects the official split, the labels, and names without their number; ids do not depend on the root."""
    said = prepared("cub200", root, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == [name[4:] for name in CLASSES]
    found = labels_and_ids(tmp_path / "out", "test")
    assert [label for label, _ in found] == [0, 0, 1, 1, 2, 2]
    assert found[4] == (2, "images/010.Red_winged_Blackbird/Red_winged_Blackbird_0004_790017.jpg")
    prepared("cub200", root / "CUB_200_2011", tmp_path / "inside")
    assert labels_and_ids(tmp_path / "inside", "test") == found


def test_numbers_other_than_the_published_ones_are_noted(root: Path, tmp_path: Path) -> None:
    """Protects against a shortened copy that nobody notices."""
    assert prepared("cub200", root, tmp_path / "out")["notes"] == [
        "12 train images are listed, the published list has 5,994",
        "6 test images are listed, the published list has 5,794",
    ]


def test_boxes(root: Path, tmp_path: Path) -> None:
    """Protects crop_boxes: x, y, width and height."""
    prepared("cub200", root, tmp_path / "out", crop_boxes=True)
    assert only(tmp_path / "out", RED)
    prepared("cub200", root, tmp_path / "whole")
    assert not only(tmp_path / "whole", RED)


def test_sources(root: Path) -> None:
    """Protects the content hash: images and the lists that are used."""
    assert len(source_files("cub200", root)) == 18 + 4
    assert len(source_files("cub200", root, {"crop_boxes": True})) == 18 + 5


def test_missing_parts_are_named(root: Path) -> None:
    """Protects preflight: what is missing, how to get it, what the tree should look like."""
    (root / "CUB_200_2011" / "bounding_boxes.txt").unlink()
    assert check("cub200", root) == []
    problem = check("cub200", root, {"crop_boxes": True})[0]
    assert "CUB_200_2011 lacks bounding_boxes.txt; figkd-pipeline download cub200 ROOT" in problem
    assert "<root>/images/001.Black_footed_Albatross" in problem
    assert source_files("cub200", root / "nowhere") == []
    assert "needs a root" in check("cub200", None)[0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("images.txt", "1 a.jpg\n2\n", r"images\.txt, line 2: '2' is not <image id> <path>"),
        ("image_class_labels.txt", "1 1\n", "do not agree about image 2"),
        ("train_test_split.txt", "1 yes\n" * 18, "'is training' is 'yes'"),
        ("classes.txt", "", r"classes\.txt is empty"),
        ("bounding_boxes.txt", "1 a b c d\n", "the box of image 1 is 'a b c d'"),
    ],
)
def test_malformed_lists_are_said(root: Path, tmp_path: Path, name: str, text: str, said: str) -> None:
    """Protects: each damaged list is one clear message, also in the check before a run."""
    (root / "CUB_200_2011" / name).write_text(text)
    with pytest.raises(DataError, match=said):
        prepared("cub200", root, tmp_path / "out", crop_boxes=True)
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_is_named(root: Path, tmp_path: Path) -> None:
    """Protects: options are checked by name and type."""
    with pytest.raises(DataError, match=r"no option 'crop'.*crop_boxes"):
        prepare("cub200", root, tmp_path / "x", image_size=8, store_size=8, options={"crop": True})
    assert "is 1, not bool" in check("cub200", root, {"crop_boxes": 1})[0]
