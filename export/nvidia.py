"""NVIDIA GPUs as the driver shows them, and which driver a CUDA version needs. Needs no CUDA and no GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.machine import gpu_facts

DRIVERS: Mapping[int, int] = {11: 450, 12: 525, 13: 580}
"""Major version of CUDA to the first branch of the Linux driver that runs it (NVIDIA's CUDA release notes)."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU here."""

    name: str
    driver: str = ""
    """Version such as `580.65.06`; empty where the driver does not answer."""


def present(devices: Path = Path("/dev")) -> Gpu | None:
    """The first GPU that the driver's library (NVML) lists, or whose device file is there; None: there is none.

    A driver that was updated and not restarted, or whose library is missing, has device files only.
    """
    for facts in gpu_facts():
        return Gpu(facts.get("name", "an NVIDIA GPU"), facts.get("driver", ""))
    return Gpu("an NVIDIA GPU") if any(devices.glob("nvidia[0-9]*")) else None


def driver_lacks(driver: str, cuda: str) -> str:
    """Why a driver cannot run programs of a CUDA version; empty where it can, or where nothing is known.

    Args:
        driver: version such as `550.54.14`.
        cuda: version such as `13.0`.
    """
    branch, major = driver.partition(".")[0], cuda.partition(".")[0]
    needed = DRIVERS.get(int(major), 0) if major.isdigit() else 0
    if not branch.isdigit() or int(branch) >= needed:
        return ""
    return f"the NVIDIA driver {driver} is too old for CUDA {cuda}, which needs R{needed} or later"
