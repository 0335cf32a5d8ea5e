"""What this process may use of the CPU, and what the CPU can do."""

from __future__ import annotations

import os
import re

CPU_FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
    "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip
"""Of x86, then of ARM, as `/proc/cpuinfo` names them."""


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def features_in(cpuinfo: str) -> list[str]:
    """Those of `CPU_FEATURES` that decide a file or explain a speed, sorted; empty if unknown.

    Args:
        cpuinfo: content of `/proc/cpuinfo`. Cores may differ; what one of them lacks does not count.
    """
    lists = re.findall(r"^(?:flags|Features)[ \t]*:(.*)$", cpuinfo, re.MULTILINE)
    common = set.intersection(*(set(words.split()) for words in lists)) if lists else set()
    return sorted(common.intersection(CPU_FEATURES))
