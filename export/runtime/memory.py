"""What a piece of work adds to the memory of a process, measured in a child that ends afterwards. Linux."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Callable, Optional

from . import malloc

_RESET_PEAK = b"5"  # proc(5): /proc/PID/clear_refs


def added_by(work: Callable[[], object], limit_s: float = 60.0) -> Optional[int]:
    """By how many bytes the peak of resident memory lies above what was resident before `work` ran.

    Args:
        work: runs in a forked child; modules that it needs are imported before, or they count.
        limit_s: a child that takes longer is ended.

    Returns:
        None where the system does not tell, or the work fails.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            malloc.give_back()  # or the work would take what is free, and resident
            restart_peak()
            before = resident()
            work()
            os.write(write, b"%d" % max(0, peak() - before))
        finally:
            os._exit(0)
    os.close(write)
    try:
        return _number(read, limit_s)
    finally:
        os.close(read)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(child, 0)


def _number(read: int, limit_s: float) -> Optional[int]:
    end, said = time.monotonic() + limit_s, b""
    ready = select.poll()  # `select` takes descriptors below 1024 only
    ready.register(read, select.POLLIN)
    while True:
        part = os.read(read, 64) if ready.poll(1000 * max(0.0, end - time.monotonic())) else b""
        if not part:
            return int(said) if said.isdigit() else None
        said += part


def restart_peak() -> None:
    """Reset the peak of this process to what is resident now.

    Raises:
        OSError: the system has no such thing.
    """
    with open("/proc/self/clear_refs", "wb") as file:
        file.write(_RESET_PEAK)


def resident() -> int:
    """Memory of this process that is resident, in bytes."""
    return _status(b"VmRSS")


def peak() -> int:
    """The largest resident memory since the process, or `restart_peak`, began, in bytes."""
    return _status(b"VmHWM")


def _status(name: bytes) -> int:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(name + b":"):
                return int(line.split()[1]) << 10
    raise OSError(name.decode())
