"""scikit-learn's digits."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from figkd.data import class_names, digits, open_split, prepare, source_files
from figkd.errors import DataError
from tests.figkd.data.examined import check


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: the message says what to install."""
    monkeypatch.setattr(digits, "_file", lambda: Path("sklearn/digits.csv.gz"))
    assert check("digits", None) == [
        "the digits data set needs scikit-learn; pip install 'figkd-pipeline[study]'"
    ]
    assert source_files("digits", None) == []


def test_a_table_of_something_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: a file of another version is refused."""
    (tmp_path / "digits.csv.gz").write_text("1,2,3\n")
    monkeypatch.setattr(digits, "_file", lambda: tmp_path / "digits.csv.gz")
    monkeypatch.setattr(np, "loadtxt", lambda *_, **__: np.array([[1, 2, 3]]))
    with pytest.raises(DataError, match="is not the table of 64 grey values"):
        prepare("digits", None, tmp_path / "out", image_size=8, store_size=8)


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_prepared(tmp_path: Path) -> None:
    """Protects counts, balance, pixels (at 8 px those of the table), repeatability, and the quick import."""
    for name in ("a", "b"):
        said = prepare("digits", None, tmp_path / name, image_size=8, store_size=8, seed=1)
    # A binomial draw: 0.2 and 0.08 of 1,797 by the hash of each image, with 4 standard deviations.
    assert sum(said["counts"].values()) == 1797
    assert abs(said["counts"]["test"] - 359) < 68 and abs(said["counts"]["val"] - 144) < 46
    assert class_names(tmp_path / "a") == list("0123456789")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    test = open_split(tmp_path / "a", "test")
    assert np.bincount(test.labels).min() >= 15
    assert (test.images.min(), test.images.max()) == (0, 255)
    assert "sklearn" not in sys.modules
    from sklearn.datasets import load_digits

    found = load_digits()
    index = int(test.ids[7])
    np.testing.assert_array_equal(test.images[7, :, :, 0], np.round(found.images[index] * 255 / 16))
    assert test.labels[7] == found.target[index]
