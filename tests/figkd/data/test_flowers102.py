"""Oxford 102 Flowers in its published layout, in small: all 102 classes, few images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from figkd.data import class_names, open_split
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import labels_and_ids, picture, prepared


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One image a class in train and validation, two in test; their numbers are mixed, as published."""
    root = tmp_path / "flowers-102"
    order = np.random.default_rng(0).permutation(4 * 102) + 1
    labels = np.zeros(4 * 102, dtype=np.uint8)
    for position, image in enumerate(order):
        label = position % 102
        labels[image - 1] = label + 1
        picture(root / "jpg" / f"image_{image:05d}.jpg", (2 * label, 10, 10))
    savemat(root / "imagelabels.mat", {"labels": labels[None]})
    ids = order.astype(np.uint16)
    parts = {"trnid": ids[None, :102], "valid": ids[None, 102:204], "tstid": ids[None, 204:]}
    savemat(root / "setid.mat", parts)
    return root


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects which list is which (trnid is train, tstid is test), and the label of each image."""
    said = prepared("flowers102", root.parent, tmp_path / "out")
    assert said["counts"] == {"train": 102, "val": 102, "test": 204}
    test = open_split(tmp_path / "out", "test")
    assert test.labels.tolist() == [*range(102), *range(102)]
    assert np.abs(test.images[:, 4, 4, 0].astype(int) - 2 * test.labels).max() < 6
    assert all(name.startswith("jpg/image_00") for _, name in labels_and_ids(tmp_path / "out", "train"))
    names = class_names(tmp_path / "out")
    assert len(set(names)) == 102
    assert (names[0], names[72], names[101]) == ("pink primrose", "water lily", "blackberry lily")


def test_merged_validation(root: Path, tmp_path: Path) -> None:
    """Protects merge_val."""
    said = prepared("flowers102", root, tmp_path / "out", merge_val=True)
    assert said["counts"] == {"train": 102, "val": 102, "test": 204}
    prepared("flowers102", root, tmp_path / "plain")
    assert labels_and_ids(tmp_path / "out", "train") != labels_and_ids(tmp_path / "plain", "train")


def test_missing_and_malformed(root: Path, tmp_path: Path) -> None:
    """Protects: missing files with the download, numbers that no image has, labels out of range."""
    savemat(root / "setid.mat", {"trnid": [[999]], "valid": [[1]], "tstid": [[2]]})
    with pytest.raises(
        DataError, match=r"setid\.mat: an image number is '999', not a whole number of 1 to 408"
    ):
        prepared("flowers102", root, tmp_path / "out")
    savemat(root / "setid.mat", {"trnid": [[1]], "valid": [[1]]})
    with pytest.raises(DataError, match=r"setid\.mat is not the published list: 'tstid'"):
        prepared("flowers102", root, tmp_path / "out")
    (root / "setid.mat").unlink()
    problem = check("flowers102", root)[0]
    assert "lacks setid.mat; figkd-pipeline download flowers102 ROOT" in problem
    assert "<root>/jpg/image_00001.jpg" in problem
