"""Stanford 40 Actions in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from figkd.data import class_names
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import given, labels_and_ids, lines, picture, prepared

ACTIONS = ["applauding", "blowing_bubbles", "writing_on_a_book"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """4 training and 2 test images an action; actions.txt has a line of column names and tabs, as published."""
    root = tmp_path / "Stanford40"
    splits = root / "ImageSplits"
    for name in ACTIONS:
        files = [f"{name}_{index:03d}.jpg" for index in range(1, 7)]
        for file in files:
            picture(root / "JPEGImages" / file)
        lines(splits / f"{name}_train.txt", *files[:4])
        lines(splits / f"{name}_test.txt", *files[4:])
    lines(splits / "actions.txt", "action_name\tnumber_of_images", *(f"{name}\t\t\t6" for name in ACTIONS))
    return root


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects the split, and the order of actions.txt without its heading."""
    said = prepared("stanford40", root.parent, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == ACTIONS
    found = labels_and_ids(tmp_path / "out", "test")
    assert found[4] == (2, "JPEGImages/writing_on_a_book_005.jpg")


def test_missing_and_malformed(root: Path, tmp_path: Path) -> None:
    """Protects: an empty list, a list of an action that is missing."""
    (root / "ImageSplits" / "applauding_test.txt").write_text("")
    with pytest.raises(DataError, match=r"applauding_test\.txt is empty"):
        prepared("stanford40", root, tmp_path / "out")
    (root / "ImageSplits" / "applauding_test.txt").unlink()
    problem = check("stanford40", root)[0]
    assert "lacks ImageSplits/applauding_test.txt; figkd-pipeline download stanford40 ROOT" in problem
    assert "<root>/JPEGImages/applauding_001.jpg" in problem
