"""Where a bundle comes from, a folder or a tar file, and how it is copied into our own folder before it is checked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Iterable, Iterator, Protocol

from ..bundle.names import fault_of_name
from .disk import FILE, FOLDER, Disk
from .errors import Environment, Refused
from .site import BUNDLE

MOST_FILES = 4200
_SIGNATURE = re.compile(r"\.([0-9a-f]{8,64})\.sig\Z")
_DEPTH = 16
_SPARE = 1 << 20
_AGAIN = "take a copy that is complete, or make the bundle again"


@dataclass(frozen=True)
class Entry:
    """A file of a source."""

    path: str
    """`bundle/...`, or `bundle.KEY.sig` for a signature."""
    blocks: Iterable[bytes]


class Source(Protocol):
    """A bundle that is to be installed."""

    def size(self) -> int:
        """Bytes that it takes on the disk, at most."""

    def entries(self) -> Iterator[Entry]:
        """Its files; each is read before the next one is asked for.

        Raises:
            Refused: something in it is not a file with a plain name.
        """


class FolderSource:
    """A bundle's folder, and the signatures beside it."""

    def __init__(self, folder: str, disk: Disk) -> None:
        self._folder = os.path.abspath(folder)
        self._disk = disk

    def size(self) -> int:
        """See `Source`."""
        return sum(os.lstat(path).st_size for path, _ in self._files())

    def entries(self) -> Iterator[Entry]:
        """See `Source`."""
        for path, name in self._files():
            yield Entry(name, self._disk.blocks(path))

    def _files(self) -> Iterator["tuple[str, str]"]:
        if self._disk.kind(self._folder) != FOLDER:
            raise Refused("it is no folder and no tar file", self._folder, "give a bundle")
        yield from self._below(self._folder, BUNDLE, 0)
        above, top = os.path.split(self._folder)
        for name in self._disk.names(above):
            found = _SIGNATURE.search(name)
            if found and name == top + found.group():
                yield os.path.join(above, name), BUNDLE + found.group()

    def _below(self, folder: str, prefix: str, depth: int) -> Iterator["tuple[str, str]"]:
        for name in self._disk.names(folder):
            path, inner = os.path.join(folder, name), prefix + "/" + name
            kind = self._disk.kind(path)
            if kind == FOLDER and depth < _DEPTH:
                yield from self._below(path, inner, depth + 1)
            elif kind == FILE:
                yield path, inner
            else:
                raise Refused("{} is no regular file but a {}".format(ascii(inner), kind), folder, _AGAIN)


def name_in_bundle(name: str, top: str) -> str:
    """The path here of a file that an archive calls `TOP/...` or `TOP.KEY.sig`.

    Raises:
        Refused: it is called otherwise.
    """
    found = _SIGNATURE.search(name)
    if found and name == top + found.group():
        return BUNDLE + found.group()
    if name.startswith(top + "/"):
        return BUNDLE + name[len(top) :]
    raise Refused("{} lies outside the bundle".format(ascii(name)[:120]), top, _AGAIN)


def top_of(name: str) -> str:
    """The folder that a tar file's first entry belongs to."""
    found = _SIGNATURE.search(name)
    return name[: found.start()] if found and "/" not in name else name.split("/")[0]


def stage(disk: Disk, source: Source, folder: str) -> None:
    """Write a source's files into a folder that is made for them. What it leaves after a failure the caller removes.

    Raises:
        Refused: a name that could mean something else on this or another machine, or too many files.
        Environment: there is not enough room.
    """
    needed, free = source.size() + _SPARE, disk.free(os.path.dirname(folder))
    if needed > free:
        raise Environment(
            "the bundle needs {:.1f} MB, and {:.1f} MB are free".format(needed / 1e6, free / 1e6),
            folder,
            "free some room, or run `gc`; then install again",
        )
    disk.make_folder(folder)
    made = {""}
    folded: dict[str, str] = {}
    files: set[str] = set()
    for count, entry in enumerate(source.entries()):
        if count >= MOST_FILES:
            raise Refused("it holds more than {} files".format(MOST_FILES), "", _AGAIN)
        _check(entry.path, folded)
        if entry.path in files or entry.path in made:
            raise Refused("{} is in it twice".format(entry.path), "", _AGAIN)
        files.add(entry.path)
        parts = entry.path.split("/")
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            if above in files:
                raise Refused("{} is a file and a folder".format(above), "", _AGAIN)
            if above not in made:
                disk.make_folder(os.path.join(folder, above))
                made.add(above)
        disk.write(os.path.join(folder, entry.path), entry.blocks, 0o444)


def _check(path: str, folded: "dict[str, str]") -> None:
    parts = path.split("/")
    fault = fault_of_name(path[len(BUNDLE) + 1 :])
    if fault or len(parts) > _DEPTH:
        raise Refused("{} {}".format(ascii(path)[:120], fault or "lies too deep"), "", _AGAIN)
    for end in range(1, len(parts) + 1):
        start = "/".join(parts[:end])
        if folded.setdefault(start.lower(), start) != start:
            raise Refused("{} and {} differ in case only".format(folded[start.lower()], start), "", _AGAIN)
