"""One walk below a folder that accounts for every entry: a folder, an image, or left out with its reason."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from figkd.data.decode import SUFFIXES
from figkd.data.formats import HEAD_BYTES, kind_of
from figkd.data.left_out import LeftOut, Reason
from figkd.data.opening import readable
from figkd.errors import DataError
from figkd.files import is_text, open_regular

DEPTH = 32
"""Folders below folders that are looked into."""
MOST_ENTRIES = 20_000_000
"""Entries after which a folder is taken for something else than a data set."""

_SYSTEM = frozenset(
    {
        "__macosx",
        "@eadir",
        "@tmp",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        ".ipynb_checkpoints",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
    }
)
"""Names (lower case) that file systems, network storage and notebooks put among a user's files."""

_RAW = frozenset({".dng", ".cr2", ".nef", ".arw", ".orf", ".rw2", ".pef", ".srw"})
"""Camera raw files begin as TIFF does; what Pillow finds in them is a thumbnail."""

_PLAIN = SUFFIXES - {".heic", ".heif", ".avif"}
"""Suffixes of files that are taken for images without a look inside: every Pillow reads them."""

Judged = Reason | Literal["folder", "image"]


@dataclass(frozen=True)
class Folder:
    """A folder and what is in it; places are relative to where the walk began, "" for that folder itself.

    Attributes:
        place: of the folder.
        images: places of the images directly in it.
        folders: the folders directly in it.
        left_out: what is directly in it and cannot be used.
    """

    place: str
    images: tuple[str, ...]
    folders: tuple[Folder, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def name(self) -> str:
        """Last part of the place."""
        return self.place.rpartition("/")[2]

    def all_images(self) -> Iterator[str]:
        """Places of all images at any depth."""
        yield from self.images
        for folder in self.folders:
            yield from folder.all_images()

    def all_left_out(self) -> Iterator[LeftOut]:
        """What cannot be used, at any depth."""
        yield from self.left_out
        for folder in self.folders:
            yield from folder.all_left_out()

    def has_images(self) -> bool:
        """Whether there is an image at any depth."""
        return next(self.all_images(), None) is not None


def walk(root: Path, most: int = MOST_ENTRIES) -> Folder:
    """Look at everything below a folder, in the order of the names; links are followed, loops are not.

    A file whose suffix is that of an image counts as one without being opened: decoding has the last word. Any
    other file is an image if its first bytes say so.

    Raises:
        DataError: the folder cannot be read, or there are more than `most` entries.
    """
    left = [most]
    try:
        facts = root.stat()
        return _folder(os.fspath(root), "", {(facts.st_dev, facts.st_ino)}, left)
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}", "check its permissions") from error


def _folder(path: str, place: str, above: set[tuple[int, int]], left: list[int]) -> Folder:
    with os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    left[0] -= len(entries)
    if left[0] < 0:
        raise DataError(
            f"more files than a data set has, at {place or path}", "name the folder of the images"
        )
    images: list[str] = []
    folders: list[Folder] = []
    left_out: list[LeftOut] = []
    for entry in entries:
        inner = f"{place}/{entry.name}" if place else entry.name
        judged = _judge(entry, above)
        if judged == "folder" and place.count("/") + 1 >= DEPTH:
            judged = "too_deep"
        if judged == "folder":
            facts = entry.stat()
            try:
                folders.append(_folder(entry.path, inner, above | {(facts.st_dev, facts.st_ino)}, left))
            except PermissionError:
                left_out.append(LeftOut(f"{inner}/", "unreadable"))
        elif judged == "image":
            images.append(inner)
        else:
            shown = os.fsencode(inner).decode("utf-8", "backslashreplace")
            left_out.append(LeftOut(shown + "/" * _is_folder(entry), judged))
    return Folder(place, tuple(images), tuple(folders), tuple(left_out))


def _judge(entry: os.DirEntry[str], above: set[tuple[int, int]]) -> Judged:
    """What an entry is: a folder, an image, or the reason why it is neither."""
    if entry.name.casefold() in _SYSTEM:
        return "system"
    if entry.name.startswith("."):
        return "hidden"
    if not is_text(entry.name):
        return "name"
    try:
        facts = entry.stat()
    except OSError as error:
        if error.errno == errno.ENOENT:
            return "dangling_link"
        return "link_loop" if error.errno == errno.ELOOP else "unreadable"
    if stat.S_ISDIR(facts.st_mode):
        return "link_loop" if (facts.st_dev, facts.st_ino) in above else "folder"
    if not stat.S_ISREG(facts.st_mode):
        return "special"
    return _judge_file(entry.path, facts.st_size)


def _judge_file(path: str, size: int) -> Judged:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _PLAIN:
        if not size:
            return "empty"
        return "image" if os.access(path, os.R_OK) else "unreadable"
    try:
        with open_regular(Path(path)) as file:
            kind = kind_of(file.read(HEAD_BYTES))
    except OSError:
        return "unreadable"
    if kind is None:
        return "not_image"
    return "image" if suffix not in _RAW and readable(kind) else "no_library"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
