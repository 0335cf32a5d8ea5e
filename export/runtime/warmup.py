"""Warming a GPU up until its clock is steady."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence

from .readings import clocks
from .sampling import Query

WINDOW_S, LONGEST_S, READINGS, APART = 0.25, 5.0, 3, 0.02
"""The clock is read after each window of work, and is steady once so many readings in a row agree. Two alike may be the
idle clock that has not begun to rise."""


@dataclass(frozen=True)
class WarmUp:
    """How an engine was warmed up."""

    seconds: float
    mhz: Sequence[float]
    """The clock after each window."""

    @property
    def steady(self) -> bool:
        """Whether the clock became steady."""
        return steady(self.mhz)

    def facts(self) -> dict[str, object]:
        """As JSON values."""
        return {"seconds": self.seconds, "mhz": list(self.mhz), "steady": self.steady}


def steady(readings: Sequence[float]) -> bool:
    """Whether a clock has settled: its last readings are within 2 % of each other."""
    last = readings[-READINGS:]
    return len(last) == READINGS and max(last) - min(last) <= APART * max(last)


def gpu_mhz() -> float | None:
    """The GPU's clock now; None where it cannot be read."""
    value = clocks().get("gpu", {}).get("mhz")
    return float(value) if isinstance(value, (int, float)) else None


def warm_until_steady(
    query: Query,
    read_mhz: Callable[[], float | None] = gpu_mhz,
    clock: Callable[[], float] = time.perf_counter,
) -> WarmUp | None:
    """Run `query` until the GPU's clock is steady, for 5 s at most.

    Args:
        query: one inference.
        read_mhz: the clock now; None where it cannot be read.
        clock: seconds.

    Returns:
        None where the clock cannot be read: then nothing was run, and the usual warm-up must do.
    """
    if read_mhz() is None:
        return None
    readings: list[float] = []
    start = clock()
    while not steady(readings) and clock() - start < LONGEST_S:
        window = clock()
        while clock() - window < WINDOW_S:
            query()
        now = read_mhz()
        if now is None:
            break
        readings.append(now)
    return WarmUp(clock() - start, readings)


class ClockWatch:
    """Reads the GPU's clock in a thread while another process works, from `begin` on until it is steady.

    Args:
        read_mhz: the clock now; None where it cannot be read.
        window_s: between two readings.
    """

    def __init__(self, read_mhz: Callable[[], Optional[float]] = gpu_mhz, window_s: float = WINDOW_S) -> None:
        self._read, self._window_s = read_mhz, window_s
        self._begun, self._ended = threading.Event(), threading.Event()
        self._readings: List[float] = []
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def begin(self) -> None:
        """The work has begun."""
        self._begun.set()

    def warm_up(self) -> WarmUp:
        """What was seen: the seconds are those of whole windows."""
        return WarmUp(self._window_s * len(self._readings), tuple(self._readings))

    def __enter__(self) -> ClockWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._begun.set()
        self._thread.join()

    def _loop(self) -> None:
        self._begun.wait()
        while not steady(self._readings) and not self._ended.wait(self._window_s):
            now = self._read()
            if now is None:
                return
            self._readings.append(now)
