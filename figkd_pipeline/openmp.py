"""How torch's threads wait for each other: in a loop, or asleep.

GNU's OpenMP, which torch's wheels bring along, has threads spin for milliseconds by default. That is free on an idle
machine. On one that does other work, a thread then burns the time slice that the thread it waits for would need, and
training loses nine tenths of its speed and more. Sleeping at once is best there, but costs a wake-up at every operator.
So threads spin for a moment on an idle machine, which covers the gaps between operators, and not at all on a busy one.
No result depends on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

SPINS = 1_000
"""Rounds of the waiting loop, some 20 to 50 ns each: a few hundredths of a millisecond."""

BUSY = 0.5
"""So many processes of others that want a CPU, on average over the looks, make a machine busy."""

_CHOSEN_BY = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_LOAD = Path("/proc/loadavg")
_LOOKS, _BETWEEN_S = 10, 0.002


def choose_waiting(environment: MutableMapping[str, str], others: Callable[[], float] | None = None) -> None:
    """Decide how OpenMP's threads wait, unless the user has.

    To be called before torch is imported: the library reads its environment once, when it is loaded.

    Args:
        environment: of this process; what decides is added.
        others: how many threads of others want a CPU now; None looks.
    """
    if any(environment.get(name) for name in _CHOSEN_BY):
        return
    if (others or others_at_work)() >= BUSY + spare_cpus():
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    else:
        environment["GOMP_SPINCOUNT"] = str(SPINS)


def others_at_work(load: Path = _LOAD) -> float:
    """How many threads beside this one run or want to, the mean of a few looks; 0 where the system does not tell."""
    found = []
    for _ in range(_LOOKS):
        try:
            running, _, _ = load.read_text(encoding="ascii").split()[3].partition("/")
            found.append(max(0, int(running) - 1))
        except (OSError, ValueError, IndexError):
            return 0.0
        time.sleep(_BETWEEN_S)
    return sum(found) / len(found)


def spare_cpus() -> int:
    """CPUs of the machine that this process may not use: others may, without being in its way."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, (os.cpu_count() or 1) - usable)
