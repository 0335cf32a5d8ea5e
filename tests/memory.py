"""The memory that a piece of code takes at its peak, in the process that runs it.

`getrusage` cannot tell it: its peak is that of the process's whole life, and a child inherits its parent's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROCESS = Path("/proc/self")


class Growth:
    """What a block of code took: `bytes` is known once it has ended."""

    bytes: int = 0


@contextmanager
def growth() -> Iterator[Growth]:
    """Measure by how many bytes the block's peak lies above what the process held before it."""
    measured = Growth()
    (_PROCESS / "clear_refs").write_text("5")  # Linux resets the peak
    before = peak_bytes()
    try:
        yield measured
    finally:
        measured.bytes = peak_bytes() - before


def peak_bytes() -> int:
    """The largest resident memory since this program was started, or since `growth` began."""
    status = (_PROCESS / "status").read_text(encoding="ascii", errors="replace")
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[1]) << 10  # type: ignore[index]


def resident_bytes(pid: int) -> int:
    """The memory that another process holds now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1]) << 10  # type: ignore[index]
