"""Protects: an export is written whole or not at all, and nothing that was not written here is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from export.publish.folder import RECORD, Content, InTheWay, write_folder

FILES: dict[str, Content] = {"a.txt": b"one", "inner/b.bin": lambda: b"two"}


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_files_are_written_and_written_again(tmp_path: Path) -> None:
    out = tmp_path / "deep/out"
    assert write_folder(out, FILES, "triton", ["1"])
    first = _tree(out)
    assert first.keys() == {"a.txt", "inner/b.bin", RECORD}
    assert not write_folder(out, FILES, "triton", ["1"])  # the same: nothing changes
    assert write_folder(out, {"a.txt": b"new"}, "triton", ["2"])
    assert _tree(out).keys() == {"a.txt", RECORD}
    assert os.listdir(tmp_path / "deep") == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert write_folder(tmp_path / "out", FILES, "hf", [])


@pytest.mark.parametrize(
    "how", ["file", "link", "foreign", "added", "changed", "missing", "linked", "kind", "record"]
)
def test_what_is_not_ours_stays(tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    if how == "file":
        out.write_text("mine")
    elif how == "foreign":
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        write_folder(out, FILES, "triton", ["1"])
    if how == "link":
        out.rename(tmp_path / "there")
        out.symlink_to("there")
    elif how == "added":
        (out / "mine").write_text("mine")
    elif how == "changed":
        (out / "a.txt").write_text("mine")
    elif how == "missing":
        (out / "a.txt").unlink()
    elif how == "linked":
        (out / "a.txt").unlink()
        (out / "a.txt").symlink_to("inner/b.bin")
    elif how == "record":
        (out / RECORD).write_text('{"kind":"triton"}')
    before = _tree(tmp_path)
    with pytest.raises(InTheWay):
        write_folder(out, {"a.txt": b"new"}, "hf" if how == "kind" else "triton", ["2"])
    assert _tree(tmp_path) == before
    assert len(os.listdir(tmp_path)) == (2 if how == "link" else 1)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """The engine cannot be read, or the disk is full: the folder is as before, and no draft is left."""

    def fails() -> bytes:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    with pytest.raises(OSError, match="No space"):
        write_folder(out, {"a.txt": fails}, "triton", ["1"])
    assert os.listdir(tmp_path) == []
    write_folder(out, FILES, "triton", ["1"])
    before = _tree(tmp_path)
    with pytest.raises(OSError, match="No space"):
        write_folder(out, {"b.txt": b"1", "a.txt": fails}, "triton", ["2"])
    assert (_tree(tmp_path), os.listdir(tmp_path)) == (before, ["out"])
