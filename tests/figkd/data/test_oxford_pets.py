"""Oxford-IIIT Pets in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from figkd.data import class_names
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import given, labels_and_ids, lines, picture, prepared

BREEDS = [("Abyssinian", 1, 1), ("american_bulldog", 2, 1), ("British_Shorthair", 1, 2)]
"""Name, species and id within the species; the class ids are 1, 2 and 3."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 training and 2 test images a breed."""
    root = tmp_path / "oxford-iiit-pet"
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for key, (breed, species, number) in enumerate(BREEDS, 1):
        for index in range(6):
            picture(root / "images" / f"{breed}_{index + 1}.jpg")
            lists["trainval" if index < 4 else "test"].append(f"{breed}_{index + 1} {key} {species} {number}")
    (root / "images" / "Abyssinian_100.mat").write_bytes(b"the archive holds a few of these")
    for name, rows in lists.items():
        lines(root / "annotations" / f"{name}.txt", *rows)
    return root


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects the split, class ids from 1, and names of more than one word."""
    said = prepared("oxford_pets", root.parent, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == ["Abyssinian", "american_bulldog", "British_Shorthair"]
    found = labels_and_ids(tmp_path / "out", "test")
    assert found[2:4] == [(1, "images/american_bulldog_5.jpg"), (1, "images/american_bulldog_6.jpg")]


def test_a_gif_that_is_called_jpg(root: Path, tmp_path: Path) -> None:
    """Protects the published oddity: a few .jpg files are GIF inside."""
    Image.new("P", (20, 20)).save(root / "images" / "Abyssinian_5.jpg", "GIF")
    assert prepared("oxford_pets", root, tmp_path / "out")["skipped"] == []


def test_missing_and_malformed(root: Path, tmp_path: Path) -> None:
    """Protects: a line with too few fields, an id that is no number, missing lists."""
    lines(root / "annotations" / "test.txt", "Abyssinian_5 1 1 1", "Abyssinian_6 1")
    with pytest.raises(DataError, match=r"test\.txt, line 2: 'Abyssinian_6 1' is not <image> <class id>"):
        prepared("oxford_pets", root, tmp_path / "out")
    lines(root / "annotations" / "test.txt", "Abyssinian_5 cat 1 1")
    with pytest.raises(DataError, match="the class of Abyssinian_5 is 'cat'"):
        prepared("oxford_pets", root, tmp_path / "out")
    (root / "annotations" / "test.txt").unlink()
    problem = check("oxford_pets", root)[0]
    assert "lacks annotations/test.txt; figkd-pipeline download oxford_pets ROOT" in problem
    assert "<root>/images/Abyssinian_1.jpg" in problem
