"""A bundle as one tar file, read without trust.

An entry is taken only if its header is, byte for byte, what the ustar format writes for a file or folder of this name,
size, mode, owner and time. So links, devices, sparse files, PAX and GNU extensions, and sizes that readers take
differently are all refused by one rule. Nothing is compressed: no more is written than the tar file's size.
"""

from __future__ import annotations

import os
import tarfile
from typing import BinaryIO, Iterator

from .errors import Environment, Refused
from .source import MOST_FILES, Entry, name_in_bundle, top_of

_RECORD = 512
_BLOCK = 1 << 20
_MOST_PADDING = 1 << 20
_AGAIN = "take a copy that is complete, or make it again with `bundle --tar`"


class TarSource:
    """A tar file on the disk."""

    def __init__(self, path: str) -> None:
        self._path = path

    def size(self) -> int:
        """See `Source`."""
        try:
            return os.stat(self._path).st_size
        except OSError as error:
            raise Environment(
                "it cannot be read: {}".format(error.strerror), self._path, "give a bundle"
            ) from None

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        try:
            with open(self._path, "rb") as file:
                yield from _entries(file, self._path)
        except OSError as error:
            raise Environment(
                "it cannot be read: {}".format(error.strerror), self._path, "give a bundle"
            ) from None


def _entries(file: BinaryIO, path: str) -> Iterator[Entry]:
    top = ""
    for _ in range(2 * MOST_FILES):
        header = file.read(_RECORD)
        if header == bytes(_RECORD):
            _end(file, path)
            return
        found = _header(header, path)
        top = top or top_of(found.name)
        if found.isdir():
            if found.name != top:
                name_in_bundle(found.name, top)
            continue
        part = _Part(file, found.size, path)
        yield Entry(name_in_bundle(found.name, top), part)
        part.finish()
    raise Refused("it holds more than {} files".format(MOST_FILES), path, _AGAIN)


def _header(header: bytes, path: str) -> tarfile.TarInfo:
    if len(header) < _RECORD:
        raise Refused("it is cut off", path, _AGAIN)
    try:
        found = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        again = found.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except (tarfile.TarError, ValueError):
        raise Refused("it is no tar file of a bundle, or damaged", path, _AGAIN) from None
    plain = found.type == tarfile.REGTYPE or (found.type == tarfile.DIRTYPE and found.size == 0)
    if not plain or again != header or found.size < 0:
        raise Refused(
            "{} is no plain file, or written in another dialect of tar".format(ascii(found.name)[:120]),
            path,
            _AGAIN,
        )
    return found


class _Part:
    """The bytes of one entry; whoever takes them takes them all."""

    def __init__(self, file: BinaryIO, size: int, path: str) -> None:
        self._file = file
        self._left = size
        self._padding = -size % _RECORD
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            block = self._file.read(min(self._left, _BLOCK))
            if not block:
                raise Refused("it is cut off", self._path, _AGAIN)
            self._left -= len(block)
            yield block

    def finish(self) -> None:
        """Go on to the next header."""
        for _ in self:
            pass
        if self._file.read(self._padding) != bytes(self._padding):
            raise Refused("it is cut off, or holds something between its files", self._path, _AGAIN)


def _end(file: BinaryIO, path: str) -> None:
    rest = file.read(_MOST_PADDING + 1)
    if len(rest) > _MOST_PADDING or rest.strip(b"\0") or len(rest) < _RECORD:
        raise Refused("it is cut off, or something follows its end", path, _AGAIN)
