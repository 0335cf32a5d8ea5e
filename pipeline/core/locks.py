"""Locks between processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

_POLL_S = 0.1


@contextmanager
def held(lock: FileLock, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a lock; `on_wait` is called once if another process holds it."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        lock.acquire(poll_interval=_POLL_S)
    try:
        yield
    finally:
        lock.release()
