"""Which artifacts running processes work with, so that nobody removes them meanwhile.

    <root>/in_use/<random>      one process: the folders of its artifacts, a line each; it holds a lock on the file

The lock is flock's: it ends with the process, however that ends. A file that nobody holds is a left-over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
from pathlib import Path

_MOST_BYTES = 1 << 24


class Pins:
    """The artifacts that this process uses. One object for each store; the pins end with it or with the process."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "in_use"
        self._file: int | None = None
        self._guard = threading.Lock()

    def add(self, name: str) -> None:
        """Keep an artifact from being removed.

        Args:
            name: its folder relative to the store's artifacts. Pin it while the lock of its recipe is held.
        """
        with self._guard:
            if self._file is None:
                self._file = self._opened()
            os.write(self._file, f"{name}\n".encode("utf-8", "surrogateescape"))

    def _opened(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor, path = tempfile.mkstemp(dir=self._folder)
            with contextlib.suppress(
                OSError
            ):  # a file system without locks: `pinned` then takes every file for held
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.exists(path):  # else another process took it for a left-over before it was locked
                return descriptor
            os.close(descriptor)

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def pinned(root: Path) -> set[str]:
    """What running processes have pinned; removes the files of those that ended."""
    found: set[str] = set()
    for path in (root / "in_use").glob("*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # held, or nobody can say
                found |= set(file.read(_MOST_BYTES).decode("utf-8", "surrogateescape").splitlines())
            else:
                path.unlink()
    return found
