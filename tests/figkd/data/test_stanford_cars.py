"""Stanford Cars in both published layouts, in small, with lists written as MATLAB does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from figkd.data import class_names
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import RED, given, labels_and_ids, only, picture, prepared

CLASSES = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"]


def _names() -> np.ndarray:
    found = np.empty((1, len(CLASSES)), dtype=object)
    found[0, :] = [np.array([name]) for name in CLASSES]
    return found


def _records(columns: list[str], rows: list[tuple[object, ...]]) -> np.ndarray:
    found = np.empty((1, len(rows)), dtype=[(name, object) for name in columns])
    for index, row in enumerate(rows):
        found[0, index] = tuple(
            np.array([value]) if isinstance(value, str) else np.array([[value]], dtype=np.uint8)
            for value in row
        )
    return found


CORNERS = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"]


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """The layout with a devkit: 4 training and 2 test images a class, each split numbered from 1."""
    root = tmp_path / "cars"
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": _names()})
    for split, count, path in (
        ("train", 4, root / "devkit" / "cars_train_annos.mat"),
        ("test", 2, root / "cars_test_annos_withlabels.mat"),
    ):
        rows: list[tuple[object, ...]] = []
        for label in range(1, 4):
            for _ in range(count):
                name = f"{len(rows) + 1:05d}.jpg"
                picture(root / f"cars_{split}" / name, RED, (10, 20, 30, 40))
                rows.append((11, 21, 30, 40, label, name))
        savemat(path, {"annotations": _records([*CORNERS, "class", "fname"], rows)})
    return root


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """The layout with one list: the columns as published, `test` tells the splits apart."""
    root = tmp_path / "cars196"
    rows: list[tuple[object, ...]] = []
    for label in range(1, 4):
        for index in range(6):
            name = f"car_ims/{len(rows) + 1:06d}.jpg"
            picture(root / name, RED, (10, 20, 30, 40))
            rows.append((name, 11, 21, 30, 40, label, int(index >= 4)))
    columns = ["relative_im_path", *CORNERS, "class", "test"]
    savemat(root / "cars_annos.mat", {"annotations": _records(columns, rows), "class_names": _names()})
    return root


def test_layout_with_devkit(devkit: Path, tmp_path: Path) -> None:
    """Protects the split, labels from 1 to 0, names with slashes; the labelled test list may be in devkit/."""
    said = prepared("stanford_cars", devkit, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == CLASSES
    found = labels_and_ids(tmp_path / "out", "test")
    assert [label for label, _ in found] == [0, 0, 1, 1, 2, 2]
    assert found[2] == (1, "cars_test/00003.jpg")
    (devkit / "cars_test_annos_withlabels.mat").rename(devkit / "devkit" / "cars_test_annos_withlabels.mat")
    assert check("stanford_cars", devkit) == []
    assert check("stanford_cars", devkit.rename(tmp_path / "stanford_cars").parent) == []


def test_layout_with_one_list(single: Path, tmp_path: Path) -> None:
    """Protects the other layout: the same split, labels and names."""
    said = prepared("stanford_cars", single, tmp_path / "out")
    assert given(said) == {"train": 12, "test": 6}
    assert class_names(tmp_path / "out") == CLASSES
    found = labels_and_ids(tmp_path / "out", "test")
    assert [label for label, _ in found] == [0, 0, 1, 1, 2, 2]
    assert found[2] == (1, "car_ims/000011.jpg")


@pytest.mark.parametrize("layout", ["devkit", "single"])
def test_boxes(layout: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Protects crop_boxes in both layouts."""
    root = request.getfixturevalue(layout)
    prepared("stanford_cars", root, tmp_path / "out", crop_boxes=True)
    assert only(tmp_path / "out", RED)
    prepared("stanford_cars", root, tmp_path / "whole")
    assert not only(tmp_path / "whole", RED)


def test_missing_parts_are_named(devkit: Path) -> None:
    """Protects: nobody serves it, so the message says which files to take and how they lie."""
    (devkit / "cars_test_annos_withlabels.mat").unlink()
    problem = check("stanford_cars", devkit)[0]
    assert "lacks cars_test_annos_withlabels.mat; https://ai.stanford.edu" in problem
    assert "does not serve it any more" in problem
    assert "<root>/devkit/cars_meta.mat, cars_train_annos.mat" in problem


def test_malformed_lists_are_said(devkit: Path, tmp_path: Path) -> None:
    """Protects: the devkit's test list without labels, a class out of range, a damaged file."""
    path = devkit / "cars_test_annos_withlabels.mat"
    savemat(path, {"annotations": _records([*CORNERS, "fname"], [(1, 1, 9, 9, "00001.jpg")] * 2)})
    with pytest.raises(DataError, match=r"withlabels\.mat lacks class, fname"):
        prepared("stanford_cars", devkit, tmp_path / "out")
    savemat(path, {"annotations": _records([*CORNERS, "class", "fname"], [(1, 1, 9, 9, 4, "00001.jpg")] * 2)})
    with pytest.raises(
        DataError, match=r"the class of cars_test/00001\.jpg is '4', not a whole number of 1 to 3"
    ):
        prepared("stanford_cars", devkit, tmp_path / "out")
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match="is not the published list"):
        prepared("stanford_cars", devkit, tmp_path / "out")
