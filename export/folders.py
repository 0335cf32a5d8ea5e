"""The files of a folder that is put into its place whole: written once, and on the disk before it is renamed."""

from __future__ import annotations

import os
from pathlib import Path


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, with its folders, through to the disk; everybody may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)


def settle(folder: Path) -> None:
    """Bring the entries of a folder and of those in it to the disk; everybody may list them."""
    for place, _, _ in os.walk(folder):
        os.chmod(place, 0o755)
        sync(place)


def sync(path: str | Path) -> None:
    """Bring a file, or the entries of one folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
