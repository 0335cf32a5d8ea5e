"""What the C library does with memory that this process frees: glibc's malloc; others are left as they are."""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8  # mallopt(3), malloc.h


def share_one() -> None:
    """Let all threads to come share one heap: what is free at the end of another one is never given back."""
    _call("mallopt", _ARENA_MAX, 1)


def give_back() -> None:
    """Give free memory back to the system (malloc_trim(3))."""
    _call("malloc_trim", 0)


def _call(name: str, *numbers: int) -> None:
    """Call a function of glibc; other C libraries are left as they are."""
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return
    function(*numbers)
