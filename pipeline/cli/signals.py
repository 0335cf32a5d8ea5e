"""Ctrl-C, the stop of a service and a lost terminal: one interrupt, from the first line of the command on."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TOLD = "interrupted; what was finished is kept, and the same command goes on from there\n"


@contextlib.contextmanager
def as_interrupts() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt in the main thread for each signal that asks to stop; yields those that came.

    A signal that the caller ignores (`nohup`, a background job of a shell) stays ignored.
    """
    came: list[int] = []

    def interrupt(number: int, _frame: Any) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    wanted = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in wanted}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell() -> None:
    """Say on stderr that the command was interrupted; needs no module that may not have been loaded."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(_TOLD)
        sys.stderr.flush()
