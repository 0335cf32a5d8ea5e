"""One timing at a time on this machine, whichever process and store it belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.locks import held
from pipeline.places.place import no_note


@contextlib.contextmanager
def timing_alone(note: Callable[[str], None] = no_note) -> Iterator[None]:
    """Hold this user's lock on timing; waits while another process times. Where no lock can be had, goes on without.

    Args:
        note: is told when there is something to wait for.
    """
    lock = _lock()
    if lock is None:
        yield
        return
    with held(lock, lambda: note("another process is timing on this machine; waiting for it")):
        yield


def _lock() -> FileLock | None:
    try:
        folder = Path.home() / ".cache" / "figkd-pipeline"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "timing.lock")
        with contextlib.suppress(Timeout), lock.acquire(timeout=0):
            pass
    except (OSError, RuntimeError, NotImplementedError):  # no home, or none that can be written or locked
        return None
    return lock
