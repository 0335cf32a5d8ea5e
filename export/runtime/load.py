"""CPU time so far: of the machine, and of this process. Who else is at work is the difference."""

from __future__ import annotations

import os
import time
from typing import Optional


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
