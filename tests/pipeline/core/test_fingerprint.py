"""The digest of source files: by content, never by name of the folder or by time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.fingerprint import file_digests, fingerprint


def _tree(root: Path, text: str = "b") -> list[Path]:
    (root / "x").mkdir(parents=True)
    (root / "x" / "1.jpg").write_text("a")
    (root / "x" / "2.jpg").write_text(text)
    return [root / "x" / "1.jpg", root / "x" / "2.jpg"]


def test_the_place_does_not_count_names_and_contents_do(tmp_path: Path) -> None:
    """A moved folder keeps its digest; a changed or renamed file changes it."""
    memory = tmp_path / "memory.json"
    one = fingerprint(tmp_path / "1", _tree(tmp_path / "1"), memory)
    assert one == fingerprint(tmp_path / "2", list(reversed(_tree(tmp_path / "2"))), memory)
    assert one != fingerprint(tmp_path / "3", _tree(tmp_path / "3", text="c"), memory)
    (tmp_path / "2" / "x" / "2.jpg").rename(tmp_path / "2" / "x" / "3.jpg")
    assert one != fingerprint(tmp_path / "2", [tmp_path / "2/x/1.jpg", tmp_path / "2/x/3.jpg"], memory)


def test_a_change_is_seen_though_size_and_name_stay(tmp_path: Path) -> None:
    """Same length, other content, right after the first look: the racy case."""
    memory = tmp_path / "memory.json"
    files = _tree(tmp_path / "1")
    before = fingerprint(tmp_path / "1", files, memory)
    files[1].write_text("c")
    assert fingerprint(tmp_path / "1", files, memory) != before


def test_old_files_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged files are not read again: the memory is used, and it is right."""
    memory = tmp_path / "memory.json"
    files = _tree(tmp_path / "1")
    _later(monkeypatch)
    first = fingerprint(tmp_path / "1", files, memory)
    known = json.loads(memory.read_text())
    known[str(files[0])][-1] = "0" * 64  # a digest that only the memory can say
    memory.write_text(json.dumps(known))
    assert fingerprint(tmp_path / "1", files, memory) != first


def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour from now, when files of now are old enough to be remembered."""
    now = time.time_ns() + 3_600_000_000_000
    monkeypatch.setattr("pipeline.core.fingerprint.time.time_ns", lambda: now)


@pytest.mark.parametrize("how", ["written over", "put in its place"])
def test_other_content_with_the_old_size_and_time_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Archives and `cp -p` restore the time stamp; the system's own change time tells."""
    memory = tmp_path / "memory.json"
    files = _tree(tmp_path / "1")
    os.utime(files[1], (1, 1))
    _later(monkeypatch)
    before = fingerprint(tmp_path / "1", files, memory)
    assert str(files[1]) in json.loads(memory.read_text())
    if how == "written over":
        files[1].write_text("c")
    else:
        (tmp_path / "new").write_text("c")
        (tmp_path / "new").rename(files[1])
    os.utime(files[1], (1, 1))
    assert fingerprint(tmp_path / "1", files, memory) != before
    assert file_digests(files, memory)[files[1]] == hashlib.sha256(b"c").hexdigest()


def test_a_file_without_permission_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no digest, the others have theirs, and the key changes once it can be read."""
    files, memory = _tree(tmp_path / "1"), tmp_path / "memory.json"
    readable = fingerprint(tmp_path / "1", files, memory)
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == files[0]:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert fingerprint(tmp_path / "1", files, memory) != readable
    assert list(file_digests(files, memory)) == [files[1]]


def test_a_name_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts, and does not keep the others from being remembered."""
    files, memory = _tree(tmp_path / "1"), tmp_path / "memory.json"
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "1" / "x") + b"/caf\xe9.jpg"))
    odd.write_text("a")
    _later(monkeypatch)
    assert fingerprint(tmp_path / "1", [*files, odd], memory) != fingerprint(tmp_path / "1", files, memory)
    assert set(json.loads(memory.read_text())) == {str(file) for file in files}


@pytest.mark.parametrize(
    "memory",
    ["[1]", "3", '{"NAME": 3}', '{"NAME": []}', '{"NAME": [SIZE, MTIME, INODE, CTIME]}',
     '{"NAME": [SIZE, MTIME, INODE, CTIME, 7]}',
     '{"NAME": [SIZE, MTIME, INODE, CTIME, "no digest"]}', "[" * 100_000, "{"],
)  # fmt: skip
def test_a_damaged_memory_counts_as_none(tmp_path: Path, memory: str) -> None:
    """Whatever stands in the file of remembered digests, the digest is that of the contents."""
    file, place = tmp_path / "a", tmp_path / "memory.json"
    file.write_text("content")
    os.utime(file, (1, 1))
    facts = file.stat()
    for word, value in (
        ("NAME", file), ("SIZE", facts.st_size), ("MTIME", facts.st_mtime_ns), ("INODE", facts.st_ino),
        ("CTIME", facts.st_ctime_ns),
    ):  # fmt: skip
        memory = memory.replace(word, str(value))
    expected = fingerprint(tmp_path, [file], tmp_path / "none.json")
    place.write_text(memory)
    assert fingerprint(tmp_path, [file], place) == expected


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the run from one file of somebody else's: it counts as unread, and as itself once it may be read."""
    (tmp_path / "a.png").write_bytes(b"mine")
    (tmp_path / "b.png").write_bytes(b"theirs")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    memory = tmp_path / "memory.json"
    whole = Path.open

    def refuse(path: Path, *rest: Any, **options: Any) -> Any:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return whole(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        unread = fingerprint(tmp_path, files, memory)
        assert fingerprint(tmp_path, files, memory) == unread
    assert fingerprint(tmp_path, files, memory) != unread
