"""Food-101 in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from figkd.data import class_names
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import given, labels_and_ids, lines, picture, prepared

CLASSES = ["apple_pie", "baby_back_ribs", "waffles"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 training and 2 test images a dish, listed without suffix."""
    root = tmp_path / "food-101"
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for name in CLASSES:
        for index in range(6):
            picture(root / "images" / name / f"{1005649 + index}.jpg")
            lists["train" if index < 4 else "test"].append(f"{name}/{1005649 + index}")
    for split, rows in lists.items():
        lines(root / "meta" / f"{split}.txt", *rows)
    lines(root / "meta" / "classes.txt", *CLASSES)
    lines(root / "meta" / "labels.txt", "Apple pie", "Baby back ribs", "Waffles")
    return root


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects the split, the order of classes.txt, and paths with the suffix that the lists leave out."""
    said = prepared("food101", root.parent, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == CLASSES
    found = labels_and_ids(tmp_path / "out", "test")
    assert [label for label, _ in found] == [0, 0, 1, 1, 2, 2]
    assert found[0] == (0, "images/apple_pie/1005653.jpg")


def test_missing_and_malformed(root: Path, tmp_path: Path) -> None:
    """Protects: an entry of no class, a missing list."""
    lines(root / "meta" / "test.txt", "sushi/1005649")
    with pytest.raises(DataError, match=r"test\.txt: 'sushi/1005649' is of no class"):
        prepared("food101", root, tmp_path / "out")
    (root / "meta" / "test.txt").unlink()
    problem = check("food101", root)[0]
    assert "lacks meta/test.txt; figkd-pipeline download food101 ROOT" in problem
    assert "<root>/meta/classes.txt, train.txt, test.txt" in problem
