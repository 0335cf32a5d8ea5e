"""How much memory decoding may take, whatever the images are and however many threads decode them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
from PIL import Image as PILImage

LIMIT_BYTES = 2 << 30
"""An image that takes more than this to decode is left out. The same on every machine: so are the data then."""

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory; four in every other mode."""

_CODEC = {"WEBP": 8, "AVIF": 8, "HEIF": 8, "JPEG2000": 16, "GIF": 8}
"""Bytes of a pixel that a decoder holds beside Pillow's image; next to none where it works row by row."""

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def bytes_to_decode(image: PILImage.Image, full_size: tuple[int, int]) -> int:
    """About how many bytes it takes, at most, to make an opened image an upright 8-bit one.

    Args:
        image: opened and not loaded; its size is the one at which it will be decoded.
        full_size: the size as stored, before reduced-scale decoding was asked for.
    """
    stored = _STORED.get(image.mode, 4)
    codec = _CODEC.get(image.format or "", 0)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        working = stored + 1
    elif image.has_transparency_data:
        working = stored + 3 * 4  # as RGBA, on white, and composed
    elif image.mode in ("L", "RGB"):
        working = stored
    else:
        working = stored + 4
    # A progressive JPEG is held as coefficients of its full size, whatever the scale.
    held = 6 * full_size[0] * full_size[1] if image.info.get("progressive") else 0
    # Whether it is turned is not known yet: a PNG says so at its end.
    turned = stored
    return image.width * image.height * (working + turned + codec) + held


class Room:
    """Bytes that threads share: one that needs more than is left waits, in the order of asking.

    What needs more than all of it waits until it has it for itself.
    """

    def __init__(self, size: int) -> None:
        self._size, self._used = size, 0
        self._change = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Hold so many bytes within the block."""
        ticket = object()
        with self._change:
            self._waiting.append(ticket)
            self._change.wait_for(lambda: self._waiting[0] is ticket and self._fits(wanted))
            self._waiting.popleft()
            self._used += wanted
            self._change.notify_all()
        try:
            yield
        finally:
            with self._change:
                self._used -= wanted
                self._change.notify_all()

    def _fits(self, wanted: int) -> bool:
        return not self._used or self._used + wanted <= self._size


@cache
def shared_room() -> Room:
    """The room of all threads of this process: half of the memory that was free at first, within the limit."""
    return Room(min(LIMIT_BYTES, psutil.virtual_memory().available // 2))


def usable_cpus() -> int:
    """CPUs that this process may use: those it is bound to, within the quota of its control group."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        return max(1, min(bound, -(-int(quota) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # none, or "max"
        return bound
