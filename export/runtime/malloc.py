"""What the C library does with memory that this process frees: glibc's malloc; others are left as they are."""

from __future__ import annotations

import ctypes

# mallopt(3), malloc.h
_MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -3, -4, -8


def share_one() -> None:
    """Let all threads to come share one heap: what is free at the end of another one is never given back."""
    _call("mallopt", _ARENA_MAX, 1)


def give_back() -> None:
    """Give free memory back to the system (malloc_trim(3))."""
    _call("malloc_trim", 0)


def start_again() -> None:
    """Give free memory back, and take large blocks from the system as a new process does, whatever was freed before."""
    _call("mallopt", _MMAP_MAX, 65536)
    _call("mallopt", _MMAP_THRESHOLD, 128 << 10)
    give_back()


def _call(name: str, *numbers: int) -> None:
    """Call a function of glibc; other C libraries are left as they are."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return
    function(*numbers)
