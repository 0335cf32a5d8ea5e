"""Files that are written whole or not at all, and whether a file is locked."""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any


def write_json(path: str, value: Any) -> None:
    """Write JSON atomically."""
    write_bytes(path, json.dumps(value, sort_keys=True).encode("utf-8"))


def write_bytes(path: str, content: bytes) -> None:
    """Write bytes atomically."""
    temporary = "{}.{}.tmp".format(path, os.getpid())
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def read_json(path: str) -> Any:
    """The JSON in a file; None if there is no such file, or if it is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


def locked(path: str) -> bool:
    """Whether any process holds a lock on a file: the kernel knows, whatever happened to who took it."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def size_of(path: str) -> int:
    """Bytes of a file, or of all files under a folder."""
    if not os.path.isdir(path):
        try:
            return os.path.getsize(path)
        except OSError:
            return 0
    return sum(size_of(os.path.join(path, name)) for name in os.listdir(path))
