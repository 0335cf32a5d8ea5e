"""Whole-or-nothing file writes, and bounded reads.

`figkd/files.py` reads in the same bounds: this one goes to devices without it, on Python 3.8, and neither imports the
other.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterable, Mapping

LIMIT = 1 << 24
"""Bytes of a JSON file that are read where nothing else is said."""
DEPTH = 64
"""Levels of nesting that are read."""


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` through a temporary neighbour and an atomic rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write `value` as sorted, indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read.

    Raises:
        OSError: it is missing, cannot be read, or is a folder, a FIFO or a device.
    """
    # A plain open() of a FIFO without a writer waits for ever.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """A regular file's content, of at most `limit` bytes; a FIFO or a device is refused without waiting for it.

    Raises:
        OSError: it is missing, cannot be read, or is no regular file.
        ValueError: it is larger.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return data


def read_json(path: Path, limit: int = LIMIT) -> Any:
    """A JSON file's value: UTF-8, at most `limit` bytes and `DEPTH` levels deep.

    Raises:
        OSError: as `read_bytes`.
        ValueError: it is larger or deeper, or is not JSON.
    """
    return parse_json(read_bytes(path, limit))


def parse_json(data: bytes) -> Any:
    """The value of JSON in UTF-8, at most `DEPTH` levels deep.

    Raises:
        ValueError: it is deeper, or is not JSON.
    """
    text = data.decode("utf-8")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} levels deep") from None
    level = [value]
    for _ in range(DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError(f"it is nested more than {DEPTH} levels deep")
    if "\\u" in text:  # an escaped half of a surrogate pair is a text that cannot be printed
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _inside(value: Any) -> Iterable[Any]:
    """The containers in a container."""
    values: Iterable[Any] = ()
    if isinstance(value, dict):
        values = value.values()
    elif isinstance(value, list):
        values = value
    return (inner for inner in values if isinstance(inner, (dict, list)))


def sha256(path: str | os.PathLike[str], alive: Callable[[], None] = lambda: None) -> str:
    """Hexadecimal SHA-256 of a file's content; `alive` is called now and then."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            alive()
    return digest.hexdigest()
