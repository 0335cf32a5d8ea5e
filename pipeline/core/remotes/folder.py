"""A folder as a remote: a network share, a mounted disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from figkd.files import open_regular
from pipeline.core.remotes.files import RemoteFault, TooLarge, Wanted

_CHUNK = 1 << 20


class FolderFiles:
    """The files below a folder; several machines may write there at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def title(self) -> str:
        """The folder."""
        return str(self._root)

    def read(self, name: str, most: int) -> bytes | None:
        """See `Files`."""
        self._check()
        with _faults(self.title):
            try:
                with open_regular(self._root / name) as file:
                    content = file.read(most + 1)
            except FileNotFoundError:
                return None
        if len(content) > most:
            raise TooLarge(f"{name} has more than {most:,} bytes")
        return content

    def fetch(self, wanted: Sequence[Wanted], folder: Path, until: float) -> None:
        """See `Files`."""
        for one in wanted:
            with (folder / one.local).open("wb") as target:
                with _faults(self.title):
                    source = open_regular(self._root / one.name)
                with source:
                    _copy(source, target, one, until, self.title)

    def lacking(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """See `Files`."""
        with _faults(self.title):
            return [one for one in wanted if _size(self._root / one.name) != one.bytes]

    def put(self, files: Sequence[tuple[Path, str]], until: float) -> None:
        """See `Files`."""
        self._check()
        for path, name in files:
            with _faults(self.title), path.open("rb") as source:
                self._write(name, source, until)

    def create(self, name: str, content: bytes) -> bool:
        """See `Files`."""
        self._check()
        target = self._root / name
        with _faults(self.title):
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".", dir=target.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                os.chmod(temporary, 0o644)
                os.link(temporary, target)  # with its content, or not at all
            except FileExistsError:
                return False
            except OSError:
                if target.exists():
                    return False
                return _created(target, content)  # a share without hard links
            finally:
                os.unlink(temporary)
        return True

    def remove(self, name: str) -> None:
        """See `Files`."""
        with _faults(self.title):
            (self._root / name).unlink(missing_ok=True)

    def _check(self) -> None:
        with _faults(self.title):
            if not self._root.is_dir():  # made by its owner: it may be a share that is not mounted
                raise RemoteFault("there is no such folder; is the share mounted?")

    def _write(self, name: str, source: BinaryIO, until: float) -> None:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                while chunk := source.read(_CHUNK):
                    if time.monotonic() > until:
                        raise RemoteFault(f"{self.title}: too slow")
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _copy(source: BinaryIO, target: BinaryIO, one: Wanted, until: float, title: str) -> None:
    left = one.bytes
    while True:
        with _faults(title):
            chunk = source.read(_CHUNK)
        if not chunk:
            return
        left -= len(chunk)
        if left < 0:
            raise TooLarge(f"{one.name} has more than {one.bytes:,} bytes")
        if time.monotonic() > until:
            raise RemoteFault("too slow")
        target.write(chunk)


def _created(target: Path, content: bytes) -> bool:
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _faults(title: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RemoteFault(f"{error.strerror or error}") from error
