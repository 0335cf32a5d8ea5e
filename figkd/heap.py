"""What the C library does with freed memory while networks compute on a CPU, or images are decoded.

A pass through a network frees all that it took, and so does an image. glibc gives large blocks, and free memory at the
end of its heap, back to the system, which has to clear each page again for the next one: a tenth of the time of many
networks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator, Mapping

# mallopt(3), malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
# glibc does not say what was set. These are its default, and what it comes to by itself when large blocks are freed.
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20}

_USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")
_TUNABLES = "GLIBC_TUNABLES"

# Of the same thread too: Python's collector may end a block, that of a generator, while another one begins or ends.
_lock = threading.RLock()
_blocks: list[None] = []


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within this block the process keeps freed memory for what it takes next; after the last one it is given back.

    What is kept is what all threads had at once, and of each thread's own heaps up to two of 64 MB, which glibc keeps
    after the block too. Nothing happens without glibc, and where the environment has one of glibc's settings of it
    (MALLOC_TRIM_THRESHOLD_ and the like, or GLIBC_TUNABLES of malloc).
    """
    libc = _glibc()
    if libc is None or _chosen(os.environ):
        yield
        return
    with _lock:
        _blocks.append(None)
        _set(libc, _KEEPING)
    try:
        yield
    finally:
        with _lock:
            _blocks.pop()
            if not _blocks:
                _set(libc, _USUAL)
                libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _chosen(environ: Mapping[str, str]) -> bool:
    """Whether the user has said how glibc's malloc works."""
    return any(map(environ.get, _USERS)) or "glibc.malloc." in environ.get(_TUNABLES, "")


def _set(libc: ctypes.CDLL, values: Mapping[int, int]) -> None:
    for name, value in values.items():
        libc.mallopt(name, value)
