"""Protects every reader of files that others wrote: regular files only, bounded, with two kinds of errors."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

import export.runtime.files
import figkd.files
from figkd.data import class_names, open_split
from figkd.data.csv_list import DEFAULTS
from figkd.data.csv_list import read as read_csv
from figkd.data.listing import matlab, rows
from figkd.data.store import facts, write_facts, write_labels
from figkd.errors import DataError, FigkdError
from figkd.files import DEPTH, read_array, read_bytes
from figkd.loss.order import hierarchy_order, read_groups

READERS = [figkd.files.read_json, export.runtime.files.read_json]


@pytest.mark.parametrize("read_json", READERS)
@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff\xfe[]", b"[" * 100_000, b"[" * (DEPTH + 2) + b"]" * (DEPTH + 2), b"9" * 5000,
        b'"\\ud800"', b'{"\\udfff": 1}', b"[" + b" " * 1000 + b"]",
    ],
)  # fmt: skip
def test_what_is_no_json_within_bounds(tmp_path: Path, data: bytes, read_json: object) -> None:
    """One kind of error, whatever is wrong: too deep, too long, half a character, not UTF-8."""
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "x", 800 if b" " in data else 1 << 20)  # type: ignore[operator]


@pytest.mark.parametrize("read_json", READERS)
def test_what_is_json_within_bounds(tmp_path: Path, read_json: object) -> None:
    """The bounds refuse nothing that is written."""
    for value in ({"ä": [1.5, None, "\U0001f600", {"a": []}]}, json.loads("[" * DEPTH + "]" * DEPTH), "x", 3):
        for ascii_only in (True, False):
            (tmp_path / "x").write_text(json.dumps(value, ensure_ascii=ascii_only), encoding="utf-8")
            assert read_json(tmp_path / "x") == value  # type: ignore[operator]


@pytest.mark.parametrize("module", [figkd.files, export.runtime.files])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, module: object) -> None:
    """A FIFO without a writer, a device without an end, a folder, nothing, a link to each."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "pipe", tmp_path / "folder", tmp_path / "link", tmp_path / "loop", tmp_path / "none",
                 Path("/dev/zero")):  # fmt: skip
        with pytest.raises(OSError, match=r"."):
            module.read_bytes(path)  # type: ignore[attr-defined]


def test_arrays(tmp_path: Path) -> None:
    """600 mutants of an array: an error of two kinds, or an array that is no larger than the file."""
    path = tmp_path / "x.npy"
    np.save(path, np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    whole = path.read_bytes()
    assert read_array(path)[1, 2, 3] == 23
    for data in (b"", b"PK\x03\x04" + bytes(100), b"\x80\x04N."):
        path.write_bytes(data)
        with pytest.raises((OSError, ValueError)):
            read_array(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="object"):
        read_array(path)
    np.savez(tmp_path / "several.npz", a=1, b=2)
    with pytest.raises(ValueError, match="several arrays"):
        read_array(tmp_path / "several.npz")
    loaded = 0
    for seed in range(600):
        chance, data = random.Random(seed), bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 4))):
            data[chance.randrange(80)] = chance.choice((chance.randrange(256), 48 + chance.randrange(10)))
        path.write_bytes(data)
        try:
            found = read_array(path)
        except (OSError, ValueError):
            continue
        loaded += 1
        assert found.nbytes <= len(whole) and not found.dtype.hasobject
    assert 0 < loaded < 500


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_lists_that_are_no_files(tmp_path: Path, make: object) -> None:
    """Every reader of lists says that, and which file it was."""
    path = tmp_path / "list"
    make(path)  # type: ignore[operator]
    for read in (lambda: rows(path, ("a",)), lambda: matlab(path, "a")):
        with pytest.raises(DataError, match="list"):
            read()
    with pytest.raises(FigkdError, match="list"):
        read_groups(path)


def test_a_csv_list_that_is_no_file(tmp_path: Path) -> None:
    """It is not waited for."""
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(DataError, match=r"list\.csv"):
        read_csv(tmp_path, DEFAULTS | {"file": "list.csv"})


def test_a_hierarchy_within_bounds(tmp_path: Path) -> None:
    """Too deep and too large are said; names that come again and again do not take quadratic time."""
    (tmp_path / "deep").write_text("[" * 500 + '"a"' + "]" * 500)
    with pytest.raises(FigkdError, match="nested"):
        read_groups(tmp_path / "deep")
    with pytest.raises(FigkdError, match="repeated"):
        hierarchy_order(["a"] * 200_000, ["a"])


@pytest.mark.parametrize(
    ("name", "text"),
    [("classes.json", "[1]"), ("classes.json", "{}"), ("data.json", "[]"), ("train_ids.json", "[1, 2]"),
     ("train_ids.json", '{"a": 1, "b": 2}'), ("train_labels.npy", ""), ("train.npy", ""), ("train.npy", "PK\x03\x04")],
)  # fmt: skip
def test_a_prepared_folder_of_other_types(tmp_path: Path, name: str, text: str) -> None:
    """Protects library users: files that are there and are something else are damage, and named."""
    np.save(tmp_path / "train.npy", np.zeros((2, 4, 4, 3), np.uint8))
    write_labels(tmp_path, "train", [0, 1], ["x", "y"])
    write_facts(tmp_path, ["a", "b"], {"store_size": 4})
    assert len(open_split(tmp_path, "train")) == 2
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="prepare the data again"):
        class_names(tmp_path), facts(tmp_path), open_split(tmp_path, "train")


def test_a_limit_counts_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ValueError, match="more than 4 bytes"):
        read_bytes(tmp_path / "x", 4)
