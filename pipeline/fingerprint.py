"""The digest of many source files by content, as fast as a look at their time stamps when nothing changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.files import read_json, write_json

# A file written within the clock's granularity of its hashing could change again without a new time stamp.
_RACY_NS = 2_000_000_000


def fingerprint(root: Path | None, files: Sequence[Path], memory: Path) -> str:
    """sha256 (hex) over the files' names relative to `root` and their contents.

    Args:
        root: names are relative to it, so that a moved folder keeps its digest; None uses file names alone.
        files: the files, in any order.
        memory: a JSON file that remembers digests by path, size, inode and time stamp between runs.
    """
    try:
        known: dict[str, list[object]] = read_json(memory)
    except (OSError, ValueError):
        known = {}
    now = time.time_ns()

    def digest_of(path: Path) -> tuple[str, list[object], bool]:
        stat = path.stat()
        stamp: list[object] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        name = os.path.abspath(path)
        old = known.get(name)
        if old and old[:3] == stamp:
            return name, old, False
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return name, [*stamp, digest], now - stat.st_mtime_ns > _RACY_NS

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(digest_of, files))
    fresh = {name: entry for name, entry, keep in found if keep}
    if fresh:
        write_json(memory, known | fresh)
    base = os.path.abspath(root) if root else None
    names = {
        (os.path.relpath(name, base) if base else os.path.basename(name)): entry[3]
        for name, entry, _ in found
    }
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(names.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
