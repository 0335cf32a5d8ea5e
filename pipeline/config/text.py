"""The text of a config file: opened only where that is safe, bounded, and UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from export.terminal import one_line
from pipeline.core.errors import ConfigError
from pipeline.core.faults import environment_fault, working_folder_exists

MAX_BYTES = 100_000
"""Largest size of a config with all that it extends, in bytes."""
TOO_LARGE = f"larger than the {MAX_BYTES / 1000:,.0f} kB that a config may have with what it extends"

_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


class Unusable(Exception):
    """A file that cannot be read; the text says why, as a predicate: "is a pipe, not a file"."""

    def __init__(self, reason: str, fix: str = "name a YAML file") -> None:
        super().__init__(reason)
        self.fix = fix


class Missing(Unusable):
    """A file that does not exist."""


def read_bytes(path: Path, most: int) -> bytes:
    """What a regular file holds.

    Args:
        path: the file; nothing else is opened, since opening a pipe waits and opening a device can do things.
        most: the largest size, in bytes; what is left of `MAX_BYTES`.

    Raises:
        Missing: there is no such file.
        Unusable: it is no regular file, is larger, or cannot be read.
        EnvironmentFault: the working folder, which the path is relative to, is gone.
    """
    try:
        _regular(os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            _regular(os.fstat(descriptor))  # another one may have taken its place
            content = file.read(most + 1) or b""
    except FileNotFoundError as error:
        if not path.is_absolute() and not working_folder_exists():
            raise environment_fault(error) from None
        raise Missing("does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unusable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > most:
        raise Unusable(f"is {TOO_LARGE}", "shorten it")
    return content


def decode(content: bytes, path: Path) -> str:
    """The text that a file's bytes are, without a byte order mark.

    Raises:
        ConfigError: it is not UTF-8; with the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"not UTF-8: byte 0x{error.object[error.start]:02x}",
            where=one_line(f"{path}:{line}"),
            fix="save the file as UTF-8",
        ) from None


def _regular(status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise Unusable(f"{_KINDS.get(kind, 'is something else')}, not a file")
