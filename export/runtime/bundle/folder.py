"""A bundle's folder as it lies on the disk: what is in it, and the bytes of one file. Links are never followed."""

import errno
import os
import stat
from typing import Dict, Iterator

from .errors import BundleRefused, shown
from .manifest import MOST_FILES

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_BLOCK = 1 << 20
_DEPTH = 32


def listing(folder: str) -> Dict[str, int]:
    """Path (with `/`) and size of every file in a folder, at any depth.

    Raises:
        BundleRefused: something in it is neither a regular file nor a folder with something in it; or too much.
    """
    found = {}  # type: Dict[str, int]
    waiting = [("", 0)]
    while waiting:
        prefix, depth = waiting.pop()
        inside = 0
        for entry in _entries(os.path.join(folder, prefix)):
            inside += 1
            name = prefix + entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and depth < _DEPTH:
                waiting.append((name + "/", depth + 1))
            elif stat.S_ISREG(mode):
                found[name] = entry.stat(follow_symlinks=False).st_size
            else:
                kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
                raise BundleRefused("%s in the bundle is %s" % (shown(name), kind))
            if len(found) + len(waiting) > MOST_FILES + 1:
                raise BundleRefused("the bundle holds more than %d files" % MOST_FILES)
        if prefix and not inside:
            raise BundleRefused("%s in the bundle is an empty folder" % shown(prefix[:-1]))
    return found


def read_file(folder: str, name: str, size: int) -> bytes:
    """The bytes of a regular file that has exactly `size` of them.

    Raises:
        BundleRefused: it is missing, no regular file, or of another size.
    """
    with os.fdopen(_open(folder, name), "rb", buffering=0) as file:
        _check_size(os.fstat(file.fileno()).st_size, name, size)
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            count = file.readinto(view[done : done + _BLOCK * 16])
            if not count:
                break
            done += count
        _check_size(done + len(file.read(1)), name, size)
    return bytes(data)


def size_of(folder: str, name: str) -> int:
    """Bytes of a regular file.

    Raises:
        BundleRefused: it is missing or no regular file.
    """
    handle = _open(folder, name)
    try:
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def blocks(folder: str, name: str) -> Iterator[bytes]:
    """The bytes of a regular file, in parts.

    Raises:
        BundleRefused: it is missing or no regular file.
    """
    with os.fdopen(_open(folder, name), "rb", buffering=0) as file:
        while True:
            block = file.read(_BLOCK)
            if not block:
                return
            yield block


def _open(folder: str, name: str) -> int:
    try:
        handle = os.open(os.path.join(folder, name), _FLAGS)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise BundleRefused("%s is missing in %s" % (name, folder)) from None
        raise BundleRefused("%s cannot be read: %s" % (name, error.strerror)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleRefused("%s is no regular file" % name)
    return handle


def _check_size(found: int, name: str, size: int) -> None:
    if found != size:
        how = "more" if found > size else "fewer"
        raise BundleRefused("%s has %s bytes than the %d in the manifest" % (name, how, size))


def _entries(folder: str) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except NotADirectoryError:
        raise BundleRefused("%s is no folder" % folder) from None
    except OSError as error:
        raise BundleRefused("%s cannot be read: %s" % (folder, error.strerror)) from None
