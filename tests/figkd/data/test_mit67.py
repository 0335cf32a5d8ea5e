"""MIT Indoor Scenes in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from figkd.data import class_names
from figkd.data.download import archives
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import given, labels_and_ids, lines, picture, prepared

CLASSES = ["airport_inside", "bakery", "winecellar"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 training and 2 test images a scene, and one that no list names; the lists are not sorted by class."""
    root = tmp_path / "indoor"
    lists: dict[str, list[str]] = {"Train": [], "Test": []}
    for name in reversed(CLASSES):
        for index in range(7):
            file = f"{name}/{name} picture_{index:04d}_gif.jpg"
            picture(root / "Images" / file)
            if index < 6:
                lists["Train" if index < 4 else "Test"].append(file)
    for split, rows in lists.items():
        lines(root / f"{split}Images.txt", *rows)
    return root


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects the split (unlisted images are left out), labels by sorted folder, file names with spaces."""
    said = prepared("mit67", root, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == CLASSES
    found = labels_and_ids(tmp_path / "out", "test")
    assert [label for label, _ in found] == [2, 2, 1, 1, 0, 0]
    assert found[0] == (2, "Images/winecellar/winecellar picture_0004_gif.jpg")


def test_missing_and_malformed(root: Path, tmp_path: Path) -> None:
    """Protects: a line without a class; what to take by hand, since nobody serves the archive."""
    lines(root / "TestImages.txt", "airport_inside_0001.jpg")
    with pytest.raises(
        DataError, match=r"TestImages\.txt: 'airport_inside_0001\.jpg' is not <class>/<image>"
    ):
        prepared("mit67", root, tmp_path / "out")
    (root / "TestImages.txt").unlink()
    problem = check("mit67", root)[0]
    assert "lacks TestImages.txt; TrainImages.txt and TestImages.txt are at https://web.mit.edu" in problem
    assert "<root>/Images/airport_inside" in problem
    assert archives("mit67") == ()
