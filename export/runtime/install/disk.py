"""Every change that an install makes on the disk, in one small interface.

What survives a power cut is what was synced: bytes of a file by `sync` of the file, names in a folder by `sync` of the
folder (fsync(2)). Because nothing else writes, a test can play all of it back on a model of a disk that loses
whatever it may lose.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Iterable, Iterator, List, Optional, Protocol

from .errors import Environment

FILE, FOLDER, LINK, OTHER, ABSENT = "file", "folder", "link", "other", ""
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Disk(Protocol):
    """Files and folders by absolute path. Names are never followed through a link in their last part."""

    def kind(self, path: str) -> str:
        """`file`, `folder`, `link`, `other`, or empty where nothing is."""

    def names(self, folder: str) -> List[str]:
        """Sorted names in a folder; none where no folder is."""

    def read(self, path: str, most: int) -> Optional[bytes]:
        """Content of a file of at most `most` bytes; None where there is none, or a longer one."""

    def blocks(self, path: str) -> Iterator[bytes]:
        """Content of a file in parts."""

    def target(self, path: str) -> Optional[str]:
        """Where a symbolic link points; None where there is none."""

    def free(self, folder: str) -> int:
        """Bytes that this user may still write."""

    def make_folder(self, path: str) -> None:
        """Make a folder that is not there yet; its parent is."""

    def write(self, path: str, blocks: Iterable[bytes], mode: int = 0o600) -> None:
        """Make a new file; nothing may be there."""

    def append(self, path: str, content: bytes) -> None:
        """Add to a file, which is made if it is absent."""

    def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link; nothing may be there."""

    def rename(self, old: str, new: str) -> None:
        """Give a file, link or folder another name; a file or link of this name is replaced."""

    def remove(self, path: str) -> None:
        """Remove a file or link."""

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""

    def sync(self, path: str) -> None:
        """Wait until the content of a file, or the names in a folder, are on the medium."""


class LocalDisk:
    """The disk of this machine.

    Raises (all methods that write):
        Environment: the disk is full, or does not let this user write.
    """

    def kind(self, path: str) -> str:
        """See `Disk`."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        tests = ((stat.S_ISREG, FILE), (stat.S_ISDIR, FOLDER), (stat.S_ISLNK, LINK))
        return next((kind for fits, kind in tests if fits(mode)), OTHER)

    def names(self, folder: str) -> List[str]:
        """See `Disk`."""
        try:
            return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, path: str, most: int) -> Optional[bytes]:
        """See `Disk`."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise _fault(error, path) from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return None
        with os.fdopen(handle, "rb") as file:
            content = file.read(most + 1)
        return content if len(content) <= most else None

    def blocks(self, path: str) -> Iterator[bytes]:
        """See `Disk`."""
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            yield from iter(lambda: file.read(_BLOCK), b"")

    def target(self, path: str) -> Optional[str]:
        """See `Disk`."""
        try:
            return os.readlink(path)
        except OSError:
            return None

    def free(self, folder: str) -> int:
        """See `Disk`."""
        facts = os.statvfs(folder)
        return facts.f_bavail * facts.f_frsize

    def make_folder(self, path: str) -> None:
        """See `Disk`."""
        try:
            os.mkdir(path, 0o755)
        except OSError as error:
            raise _fault(error, path) from None

    def write(self, path: str, blocks: Iterable[bytes], mode: int = 0o600) -> None:
        """See `Disk`."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            with os.fdopen(handle, "wb") as file:
                for block in blocks:
                    file.write(block)
        except OSError as error:
            raise _fault(error, path) from None

    def append(self, path: str, content: bytes) -> None:
        """See `Disk`."""
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        except OSError as error:
            raise _fault(error, path) from None

    def symlink(self, target: str, path: str) -> None:
        """See `Disk`."""
        try:
            os.symlink(target, path)
        except OSError as error:
            raise _fault(error, path) from None

    def rename(self, old: str, new: str) -> None:
        """See `Disk`."""
        try:
            os.replace(old, new)
        except OSError as error:
            raise _fault(error, new) from None

    def remove(self, path: str) -> None:
        """See `Disk`."""
        try:
            os.unlink(path)
        except OSError as error:
            raise _fault(error, path) from None

    def remove_folder(self, path: str) -> None:
        """See `Disk`."""
        try:
            os.rmdir(path)
        except OSError as error:
            raise _fault(error, path) from None

    def sync(self, path: str) -> None:
        """See `Disk`."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise _fault(error, path) from None


def replace_file(disk: Disk, path: str, content: bytes) -> None:
    """Write a file whole or not at all, also where power fails, and wait until it is on the medium."""
    fresh = path + ".new"
    if disk.kind(fresh) != ABSENT:
        disk.remove(fresh)
    try:
        disk.write(fresh, [content])
        disk.sync(fresh)
        disk.rename(fresh, path)
    except BaseException:
        if disk.kind(fresh) == FILE:
            disk.remove(fresh)
        raise
    disk.sync(os.path.dirname(path))


def replace_link(disk: Disk, path: str, target: str) -> None:
    """Point a symbolic link elsewhere in one step. Not synced: who calls this syncs the folder."""
    fresh = path + ".new"
    if disk.kind(fresh) != ABSENT:
        disk.remove(fresh)
    disk.symlink(target, fresh)
    disk.rename(fresh, path)


def remove_tree(disk: Disk, path: str) -> None:
    """Remove a file, a link, or a folder with all that is in it; links are not followed."""
    kind = disk.kind(path)
    if kind == FOLDER:
        for name in disk.names(path):
            remove_tree(disk, os.path.join(path, name))
        disk.remove_folder(path)
    elif kind != ABSENT:
        disk.remove(path)


def sync_tree(disk: Disk, folder: str) -> None:
    """Sync all files in a folder, at any depth, and the folders themselves."""
    for name in disk.names(folder):
        path = os.path.join(folder, name)
        kind = disk.kind(path)
        if kind == FOLDER:
            sync_tree(disk, path)
        elif kind == FILE:
            disk.sync(path)
    disk.sync(folder)


def _fault(error: OSError, path: str) -> Environment:
    if error.errno in _FULL:
        return Environment("the disk is full", path, "free some room, or run `gc`; then install again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "read-only" if error.errno == errno.EROFS else "not this user's to write"
        return Environment("the place is {}".format(reason), path, "run as the user who owns the folder")
    return Environment(os.strerror(error.errno or 0), path, "see the system's log; then install again")
