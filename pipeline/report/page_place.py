"""Where a page may be written: nowhere that holds something else."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core.errors import ConfigError

_HEAD_BYTES = 1000


def check_place(path: Path, command: str, option: str) -> None:
    """See that at a page's place there is nothing, or an earlier page of the same command.

    Args:
        path: where the page goes.
        command: that makes it, as the page's `generator` names it.
        option: that names the place.

    Raises:
        ConfigError: there is something else.
    """
    mark = f'<meta name="generator" content="figkd-pipeline {command}">'.encode()
    if os.path.lexists(path) and not _begins_with(path, mark):
        raise ConfigError(
            "another file is there, which is not replaced",
            where=str(path),
            fix=f"give the page another name: {option} FILE",
        )


def _begins_with(path: Path, mark: bytes) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return mark in file.read(_HEAD_BYTES)
