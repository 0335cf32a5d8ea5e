"""Files that are written whole or not at all, and whether a file is locked."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from typing import Any

from export.runtime.files import write_bytes

from .errors import JobError


def write_json(path: str, value: Any) -> None:
    """Write JSON atomically."""
    write_bytes(path, json.dumps(value, sort_keys=True).encode("utf-8"))


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


def own_folder(path: str) -> str:
    """A folder of this user's alone, made if it is not there.

    Raises:
        JobError: there is something else, or others may write to it.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    facts = os.lstat(path)
    others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or others:
        raise JobError(
            "{} is not a folder of this user's alone".format(path),
            "see who changed it; then move it away, and run again",
        )
    return path


def is_plain(path: str) -> bool:
    """Whether a path is a regular file itself, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


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
    """Bytes of a file, or of all files under a folder; links are not followed."""
    try:
        facts = os.lstat(path)
        names = os.listdir(path) if stat.S_ISDIR(facts.st_mode) else []
    except OSError:
        return 0
    return (
        sum(size_of(os.path.join(path, name)) for name in names)
        if stat.S_ISDIR(facts.st_mode)
        else facts.st_size
    )
