"""Data sets of Hugging Face's library; those with data are skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from figkd.data import class_names, hf, preview, source_files
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import RED, given, labels_and_ids, only, picture, prepared

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="datasets is not installed"
)
NAMES = ["zebra", "ass"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if importlib.util.find_spec("datasets") is not None:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _pictures(tmp_path: Path, count: int) -> list[bytes]:
    """Red pictures; none is a copy of one that an earlier call made."""
    found = []
    for _ in range(count):
        path = tmp_path / "pictures" / f"{len(list(tmp_path.glob('pictures/*')))}.jpg"
        picture(path, RED)
        found.append(path.read_bytes())
    return found


def _table(tmp_path: Path, count: int, **columns: Any) -> Any:
    from datasets import ClassLabel, Dataset, Features, Image, Value

    values = {
        "nr": list(range(count)),
        "photo": [{"bytes": data, "path": None} for data in _pictures(tmp_path, count)],
        "animal": [index % 2 for index in range(count)],
    }
    kinds = {"nr": Value("int64"), "photo": Image(), "animal": ClassLabel(names=NAMES)}
    for name, (kind, column) in columns.items():
        kinds[name], values[name] = kind, column
    return Dataset.from_dict(values, features=Features(kinds))


def _saved(tmp_path: Path, **splits: Any) -> Path:
    from datasets import DatasetDict

    DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects: the message says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert check("hf_datasets", None, {"name": "x"}) == [
        "the hf_datasets data set needs the package datasets; pip install 'figkd-pipeline[hf]'"
    ]


def test_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects: a folder or a name, a name with a revision; nothing is loaded to check that."""
    monkeypatch.setattr(hf.importlib.util, "find_spec", lambda name: object())
    assert "either a root folder or the option name" in check("hf_datasets", None)[0]
    assert "either a root folder or the option name" in check("hf_datasets", tmp_path, {"name": "a/b"})[0]
    assert "there is no folder" in check("hf_datasets", tmp_path / "gone")[0]
    assert "huggingface.co/datasets/a/b/commits/main" in check("hf_datasets", None, {"name": "a/b"})[0]
    assert check("hf_datasets", None, {"name": "a/b", "revision": "4f1c0de"}) == []
    assert source_files("hf_datasets", None, {"name": "a/b", "revision": "4f1c0de"}) == []
    (tmp_path / "a.parquet").touch()
    assert source_files("hf_datasets", tmp_path) == [tmp_path / "a.parquet"]
    assert "datasets" not in sys.modules or importlib.util.find_spec("datasets") is not None


@needs_library
def test_saved_folder(tmp_path: Path) -> None:
    """Protects columns found by type, names of the classes, given splits under their usual names."""
    root = _saved(
        tmp_path, train=_table(tmp_path, 8), validation=_table(tmp_path, 4), test=_table(tmp_path, 4)
    )
    said = prepared("hf_datasets", root, tmp_path / "out")
    assert said["counts"] == {"train": 8, "val": 4, "test": 4}
    assert class_names(tmp_path / "out") == NAMES
    assert labels_and_ids(tmp_path / "out", "val")[1] == (1, "validation/000001")
    assert only(tmp_path / "out", RED)


@needs_library
def test_missing_splits_are_held_out(tmp_path: Path) -> None:
    """Protects: one table only; and a test split that the options choose."""
    from datasets import Dataset

    table = _table(tmp_path, 20)
    assert isinstance(table, Dataset)
    table.save_to_disk(str(tmp_path / "one"))
    said = prepared("hf_datasets", tmp_path / "one", tmp_path / "out", test_fraction=0.2)
    assert sum(said["counts"].values()) == 20 and min(said["counts"].values()) >= 2
    root = _saved(tmp_path, train=_table(tmp_path, 8), validation=_table(tmp_path, 4))
    said = prepared("hf_datasets", root, tmp_path / "b", test_split="validation")
    assert given(said) == {"train": 8, "test": 4}


@needs_library
def test_labels_that_are_text(tmp_path: Path) -> None:
    """Protects label columns without a list of names: sorted values; rows without a label are left out."""
    from datasets import Value

    labels = ["b", "a", None, "b", "a", "a", "b", "b"]
    tables = [_table(tmp_path, 8, label=(Value("string"), labels)).remove_columns("animal") for _ in range(2)]
    root = _saved(tmp_path, train=tables[0], test=tables[1], extra=tables[0])
    said = prepared("hf_datasets", root, tmp_path / "out")
    assert class_names(tmp_path / "out") == ["a", "b"]
    assert said["counts"]["test"] == 7
    assert said["left_out"] == {
        "unlabelled": {"count": 2, "examples": ["train", "test"]},
        "unused_split": {"count": 8, "examples": ["extra"]},
    }
    assert labels_and_ids(tmp_path / "out", "test")[2] == (1, "test/000003")


@needs_library
def test_columns_that_are_not_clear(tmp_path: Path) -> None:
    """Protects: several candidates, none, a wrong name, a wrong split."""
    from datasets import ClassLabel

    group = (ClassLabel(names=["x", "y"]), [0] * 4 + [1] * 4)
    root = _saved(tmp_path, train=_table(tmp_path, 8, group=group), test=_table(tmp_path, 8, group=group))
    with pytest.raises(DataError, match=r"several \(animal, group\) may be the label.*label_column"):
        prepared("hf_datasets", root, tmp_path / "out")
    prepared("hf_datasets", root, tmp_path / "out", label_column="group")
    assert class_names(tmp_path / "out") == ["x", "y"]
    with pytest.raises(DataError, match="option image_column is 'pic'; the columns are nr, photo"):
        prepared("hf_datasets", root, tmp_path / "b", label_column="group", image_column="pic")
    with pytest.raises(DataError, match="option test_split is 'final'; the splits are train, test"):
        prepared("hf_datasets", root, tmp_path / "b", label_column="group", test_split="final")
    with pytest.raises(DataError, match="option test_split takes 'train', and no split is left for training"):
        prepared("hf_datasets", root, tmp_path / "b", label_column="group", test_split="train")
    with pytest.raises(DataError, match="options train_split and test_split both take 'test'"):
        prepared(
            "hf_datasets", root, tmp_path / "b", label_column="group", train_split="test", test_split="test"
        )


@needs_library
def test_parquet_and_image_folders(tmp_path: Path) -> None:
    """Protects the two other local forms, which the library reads with its own names."""
    _table(tmp_path, 20).to_parquet(str(tmp_path / "tables" / "train-00000.parquet"))
    said = prepared("hf_datasets", tmp_path / "tables", tmp_path / "out", test_fraction=0.2)
    assert sum(said["counts"].values()) == 20 and min(said["counts"].values()) >= 2
    for split in ("train", "test"):
        for name in NAMES:
            for index in range(4):
                picture(tmp_path / "folder" / split / name / f"{index}.jpg")
    said = prepared("hf_datasets", tmp_path / "folder", tmp_path / "b")
    assert given(said) == {"train": 8, "test": 8}
    assert class_names(tmp_path / "b") == sorted(NAMES)


@needs_library
def test_broken_images_are_listed(tmp_path: Path) -> None:
    """Protects: bytes that are no image are left out with their reason, as files are."""
    from datasets import Image

    tables = []
    for _ in range(2):
        photos = [*_pictures(tmp_path, 6), _pictures(tmp_path, 1)[0][:300], b""]
        table = _table(tmp_path, 8).remove_columns("photo").add_column("raw", photos)
        table = table.map(lambda row: {"photo": {"bytes": row["raw"], "path": None}}, remove_columns="raw")
        tables.append(table.cast_column("photo", Image()))
    said = prepared("hf_datasets", _saved(tmp_path, train=tables[0], test=tables[1]), tmp_path / "out")
    skipped = {entry["file"]: entry["reason"] for entry in said["skipped"] if entry["split"] == "test"}
    assert set(skipped) == {"test/000006", "test/000007"}
    assert skipped["test/000007"] == "empty file"


@needs_library
def test_an_unreadable_folder(tmp_path: Path) -> None:
    """Protects: whatever the library says, it is one message."""
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.parquet").write_bytes(b"junk")
    with pytest.raises(DataError, match="datasets cannot load"):
        prepared("hf_datasets", tmp_path / "junk", tmp_path / "out")


class _Library:
    """What `preview` uses of `datasets`: a hub without a network."""

    def __init__(self, splits: list[str] | None, features: dict[str, Any] | None, fails: str = "") -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._info = SimpleNamespace(splits=dict.fromkeys(splits) if splits else None, features=features)
        self._fails = fails

    def load_dataset_builder(self, name: str, config: str | None, *, revision: str) -> Any:
        self.asked.append((name, config, revision))
        if self._fails:
            raise ConnectionError(self._fails)
        return SimpleNamespace(info=self._info)


HUB = {"name": "a/b", "revision": "4f1c0de"}


def test_a_local_folder_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = _Library(None, None, "asked")
    monkeypatch.setattr(hf, "_quiet", lambda: library)
    assert preview("hf_datasets", tmp_path) == [] == preview("image_folder", tmp_path)
    assert library.asked == []


def test_what_the_hub_does_not_say_is_no_problem_and_what_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parquet files often come without a description; a name, a revision or a network that is wrong is told."""
    library = _Library(None, None)
    monkeypatch.setattr(hf, "_quiet", lambda: library)
    assert preview("hf_datasets", None, HUB) == [] and library.asked == [("a/b", None, "4f1c0de")]
    monkeypatch.setattr(hf, "_quiet", lambda: _Library(None, None, "no\n such revision"))
    (problem,) = preview("hf_datasets", None, HUB)
    assert problem.what == "datasets cannot open a/b: no such revision" and "hf auth login" in problem.fix


@needs_library
def test_splits_and_columns_of_the_hub_are_checked_before_the_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from datasets import ClassLabel, Image

    features = {"photo": Image(), "animal": ClassLabel(names=NAMES), "other": ClassLabel(names=NAMES)}
    monkeypatch.setattr(hf, "_quiet", lambda: _Library(["train", "test"], features))
    (problem,) = preview("hf_datasets", None, HUB)
    assert "several (animal, other) may be the label" in problem.what and "label_column" in problem.fix
    named = HUB | {"label_column": "animal"}
    assert preview("hf_datasets", None, named) == []
    (problem,) = preview("hf_datasets", None, named | {"test_split": "final"})
    assert "test_split is 'final'; the splits are train, test" in problem.what
