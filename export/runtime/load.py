"""CPU time of the machine and of this process. Who else is at work is the difference."""

from __future__ import annotations

import os
import time
from typing import Iterable, Mapping, Optional

Load = Mapping[str, float]
"""Who used the CPUs for a time, as `load_between` has it."""
# `/proc/stat` counts in ticks, usually of 10 ms: so much is nobody's.
_CLOCK_S = 0.02


def load_now() -> Optional[dict[str, float]]:
    """CPU time so far, seconds: of the machine (`busy`, `steal`), of this process and its ended children (`own`), and
    the `clock`.

    None where the system does not tell (`/proc/stat`).
    """
    try:
        with open("/proc/stat", encoding="ascii", errors="replace") as file:
            first = file.readline().split()
    except OSError:
        return None
    if len(first) < 9 or first[0] != "cpu":
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) / ticks for value in first[1:9])
    children = os.times()
    own = time.process_time() + children.children_user + children.children_system
    return {
        "busy": user + nice + system + irq + softirq, "steal": steal, "own": own, "clock": time.monotonic(),
    }  # fmt: skip


def load_between(before: Optional[Mapping[str, float]], after: Optional[Mapping[str, float]]) -> Load:
    """Who used the CPUs between two `load_now`.

    Returns:
        `own_cores` (CPU seconds of this process a second), `other_cores` (of all others), `steal_cores` (taken by the
        hypervisor), `seconds`; empty if unknown.
    """
    if before is None or after is None or after["clock"] <= before["clock"]:
        return {}
    seconds = after["clock"] - before["clock"]
    busy, own, steal = (after[key] - before[key] for key in ("busy", "own", "steal"))
    return {
        "seconds": round(seconds, 3),
        "own_cores": round(own / seconds, 3),
        "other_cores": round(max(0.0, busy - own) / seconds, 3),
        "steal_cores": round(max(0.0, steal) / seconds, 3),
    }


def load_together(loads: Iterable[Load]) -> dict[str, float]:
    """Several `load_between` as one: seconds added up, cores averaged over them; empty where none tells."""
    known = [load for load in loads if load]
    seconds = sum(load["seconds"] for load in known)
    if not seconds:
        return {}
    found = {"seconds": round(seconds, 3)}
    for key in ("own_cores", "other_cores", "steal_cores"):
        found[key] = round(sum(load[key] * load["seconds"] for load in known) / seconds, 3)
    return found


def foreign_cores(load: Load) -> float:
    """The larger of what other processes and the hypervisor took, in cores; 0 where it is not known."""
    return max(float(load.get("other_cores", 0.0)), float(load.get("steal_cores", 0.0)))


def is_disturbed(load: Load, most: float) -> bool:
    """Whether others took more than so many cores, by more than the system's clock can be wrong."""
    seconds = float(load.get("seconds", 0.0))
    return foreign_cores(load) * seconds > most * seconds + _CLOCK_S
