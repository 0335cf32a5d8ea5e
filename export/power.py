"""Energy that the machine itself can tell: counters (RAPL, NVML) and sampled power (rails, NVML).

Standard library only, Python 3.8 and later. Every reader of files takes the root of the file system, so that recorded
trees of other machines can be read too. Nothing here runs while latency is timed: energy has a run of its own.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_RAPL = "sys/class/powercap"
_ZONE = re.compile(r"^intel-rapl:\d+$")  # also of AMD's CPUs
_INTERVAL_S = 0.02


class Unavailable(Exception):
    """No power can be read here; the message says why, and what would help."""


@dataclass(frozen=True)
class Energy:
    """What a span of time took."""

    joules: float
    seconds: float
    readings: int
    """How often power was read; 2 of a counter."""

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Counter:
    """Energy from a counter in the hardware: exact, whatever happens between two readings."""

    source: str
    """What is read, in words."""
    covers: str
    """Which parts of the machine."""
    joules: Callable[[], float]
    """Joules since some fixed time; only grows."""

    def measure(self, work: Callable[[], None]) -> Energy:
        """Energy while `work` runs."""
        before, start = self.joules(), time.perf_counter()
        work()
        after, end = self.joules(), time.perf_counter()
        return Energy(after - before, end - start, 2)


@dataclass(frozen=True)
class Sampled:
    """Energy from power that a thread reads now and then: the trapezoid over the readings."""

    source: str
    covers: str
    watts: Callable[[], float]
    interval_s: float = _INTERVAL_S

    def measure(self, work: Callable[[], None]) -> Energy:
        """Energy while `work` runs."""
        readings: list[tuple[float, float]] = []
        failed: list[Exception] = []
        stop = threading.Event()

        def sample() -> None:
            try:
                while True:
                    readings.append((time.perf_counter(), self.watts()))
                    if stop.wait(self.interval_s):
                        return
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            work()
        finally:
            stop.set()
            thread.join()
        if failed:
            raise Unavailable(f"{self.source} could not be read any more: {failed[0]}")
        return trapezoid(readings)


# A clock's step; readings of power are milliseconds apart.
_SHORTEST_S = 1e-6


def trapezoid(readings: list[tuple[float, float]]) -> Energy:
    """Energy of (seconds, watts) readings in their order.

    Raises:
        Unavailable: fewer than three, which say nothing about what lies between; or times that do not pass.
    """
    if len(readings) < 3:
        raise Unavailable(f"power was read only {len(readings)} times; measure for longer")
    steps = [(readings[i - 1], readings[i]) for i in range(1, len(readings))]
    if any(b[0] < a[0] for a, b in steps) or readings[-1][0] - readings[0][0] < _SHORTEST_S:
        raise Unavailable("no time passed between the readings of power")
    joules = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in steps)
    return Energy(joules, readings[-1][0] - readings[0][0], len(readings))


def rapl(root: str = "/") -> Counter:
    """The CPU's own counters: the whole platform where it tells (`psys`), else packages and their memory.

    Raises:
        Unavailable: there are none (virtual machines, most ARM boards), or only root may read them.
    """
    base = os.path.join(root, _RAPL)
    zones = sorted(name for name in _listed(base) if _ZONE.match(name))
    if not zones:
        raise Unavailable(f"this CPU shows no energy counters (/{_RAPL}); virtual machines have none")
    named = {zone: _text(os.path.join(base, zone, "name")) for zone in zones}
    chosen = [zone for zone in zones if named[zone] == "psys"] or [
        zone for zone in zones if named[zone].startswith("package")
    ]
    folders = [os.path.join(base, zone) for zone in chosen]
    if chosen and named[chosen[0]] != "psys":
        # `core` and `uncore` are parts of the package, memory is not.
        folders += [
            os.path.join(folder, part)
            for folder in list(folders)
            for part in sorted(_listed(folder))
            if part.startswith("intel-rapl:") and _text(os.path.join(folder, part, "name")) == "dram"
        ]
    if not folders:
        raise Unavailable(f"/{_RAPL} has neither a package nor the platform")
    for folder in folders:
        path = os.path.join(folder, "energy_uj")
        try:
            with open(path, encoding="ascii") as file:
                file.read()
        except PermissionError:
            raise Unavailable(
                f"/{os.path.relpath(path, root)} may be read by root only: sudo chmod a+r it, or run as root"
            ) from None
        except OSError as error:
            raise Unavailable(f"/{os.path.relpath(path, root)} cannot be read: {error.strerror}") from None
    counters = [_Wrapping(folder) for folder in folders]
    names = [_text(os.path.join(folder, "name")) for folder in folders]
    covers = "the whole platform" if names[0] == "psys" else " and ".join(dict.fromkeys(names))
    return Counter("RAPL " + " + ".join(names), covers, lambda: sum(c.joules() for c in counters))


class _Wrapping:
    """A RAPL counter, which starts again at 0 after `max_energy_range_uj` (an hour or so)."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "energy_uj")
        self._range = float(_text(os.path.join(folder, "max_energy_range_uj")) or 0)
        self._last = float(_text(self._path))
        self._turns = 0.0

    def joules(self) -> float:
        now = float(_text(self._path))
        if now < self._last:
            self._turns += self._range
        self._last = now
        return (self._turns + now) / 1e6


def nvml(library: Any = None, index: int = 0) -> Counter | Sampled:
    """An NVIDIA GPU's energy counter (Volta and later), else its sampled power.

    Args:
        library: the module `pynvml`, initialised; imported by default.
        index: of the GPU.

    Raises:
        Unavailable: no library, no driver, no GPU, or one that does not tell.
    """
    try:
        if library is None:
            import pynvml

            library = pynvml
        library.nvmlInit()
        handle = library.nvmlDeviceGetHandleByIndex(index)
        name = library.nvmlDeviceGetName(handle)
    except Exception as error:
        raise Unavailable(f"no NVIDIA GPU can be asked: {error}") from None
    covers = f"GPU {index}: {name.decode() if isinstance(name, bytes) else name}"
    try:
        library.nvmlDeviceGetTotalEnergyConsumption(handle)
        return Counter(
            "NVML energy counter", covers, lambda: library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        )
    except Exception:  # older than Volta, or a board without the counter
        pass
    try:
        library.nvmlDeviceGetPowerUsage(handle)
    except Exception as error:
        raise Unavailable(f"the GPU does not report its power: {error}") from None
    return Sampled("NVML power", covers, lambda: library.nvmlDeviceGetPowerUsage(handle) / 1e3)


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
