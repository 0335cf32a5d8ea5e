"""The digest of many source files by content, as fast as a look at their time stamps when nothing changed."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from figkd.files import is_text
from pipeline.core.files import Json, read_json, write_json

# A file written within the clock's granularity of its hashing could change again without a new time stamp.
_RACY_NS = 2_000_000_000


def fingerprint(root: Path | None, files: Sequence[Path], memory: Path) -> str:
    """sha256 (hex) over the files' names relative to `root` and their contents.

    Args:
        root: names are relative to it, so that a moved folder keeps its digest; None uses file names alone.
        files: the files, in any order.
        memory: as of `file_digests`.

    Raises:
        OSError: a file cannot be read for another reason than its permissions.
    """
    base = os.path.abspath(root) if root else None
    names = {}
    for path, digest in _digests(files, memory).items():
        if isinstance(digest, OSError) and not isinstance(digest, PermissionError):
            raise digest
        name = os.path.abspath(path)
        # A file that this user may not read is left out later, with its reason; once it can be read, the key changes.
        said = digest if isinstance(digest, str) else "unreadable"
        names[os.path.relpath(name, base) if base else os.path.basename(name)] = said
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(names.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def file_digests(files: Sequence[Path], memory: Path) -> dict[Path, str]:
    """sha256 (hex) of each file that can be read.

    Args:
        files: the files, in any order.
        memory: a JSON file that remembers digests by path, size, inode and the times of the last change of content
            and of inode between runs. The latter is set by the system alone: other content with the old size and
            time stamp, as `cp -p` and archives leave it, is seen.
    """
    return {path: digest for path, digest in _digests(files, memory).items() if isinstance(digest, str)}


def _digests(files: Sequence[Path], memory: Path) -> dict[Path, str | OSError]:
    remembered = _remembered(memory)
    known = dict(remembered)
    found = digests_or_errors(files, known)
    if known != remembered:
        write_json(memory, known)
    return found


def digests_or_errors(files: Sequence[Path], known: Json) -> dict[Path, str | OSError]:
    """sha256 (hex) of each file, or why it cannot be read; several are read at a time.

    Args:
        files: the files, in any order.
        known: what earlier calls found, and added to it: files that did not change since are not read.
    """
    now = time.time_ns()

    def digest_of(path: Path) -> str | OSError:
        try:
            stat = path.stat()
            stamp: list[object] = [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]
            name = os.path.abspath(path)
            old = known.get(name)
            if isinstance(old, list) and old[: len(stamp)] == stamp and _is_digest(old[len(stamp) :]):
                return str(old[-1])
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return error
        is_settled = now - max(stat.st_mtime_ns, stat.st_ctime_ns) > _RACY_NS
        if is_settled and is_text(name):  # a JSON file holds no others
            known[name] = [*stamp, digest]
        return digest

    with ThreadPoolExecutor() as pool:
        return dict(zip(files, pool.map(digest_of, files), strict=True))


def _remembered(memory: Path) -> Json:
    """What an earlier run wrote; nothing if it is damaged: then everything is hashed again."""
    try:
        found = read_json(memory)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_digest(rest: list[Any]) -> bool:
    return len(rest) == 1 and isinstance(rest[0], str) and bool(re.fullmatch("[0-9a-f]{64}", rest[0]))
