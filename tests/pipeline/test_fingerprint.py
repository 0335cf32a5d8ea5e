"""The digest of source files: by content, never by name of the folder or by time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from pipeline.fingerprint import fingerprint


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


def test_old_files_are_remembered(tmp_path: Path) -> None:
    """Unchanged files are not read again: the memory is used, and it is right."""
    memory = tmp_path / "memory.json"
    files = _tree(tmp_path / "1")
    old = time.time() - 1000
    for path in files:
        os.utime(path, (old, old))
    first = fingerprint(tmp_path / "1", files, memory)
    known = json.loads(memory.read_text())
    known[str(files[0])][3] = "0" * 64  # a digest that only the memory can say
    memory.write_text(json.dumps(known))
    assert fingerprint(tmp_path / "1", files, memory) != first
