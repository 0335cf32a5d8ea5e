"""Memory on a device whose GPU shares it, looked at before a build."""

from __future__ import annotations

import os

from .errors import JobError

# CUDA context and TensorRT's libraries; what a builder holds of a network beside its weights.
_BASE_MB = 500
_PER_ONNX_BYTE = 3
_FIX = (
    "close the device's desktop (sudo systemctl isolate multi-user.target) and other users of memory, add swap "
    "(sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile), "
    "or set targets.NAME.workspace_mb (such as 512)"
)


def free_mb(root: str = "/") -> dict[str, int]:
    """`available` and `swap_free` in MiB; left out where they cannot be read.

    Swap on zram is left out of `swap_free`: it is kept in the memory itself, and a Jetson has it from the start.
    """
    found: dict[str, int] = {}
    for line in _lines(root, "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable" and value.split()[:1] and value.split()[0].isdigit():
            found["available"] = int(value.split()[0]) // 1024
    swaps = _lines(root, "proc/swaps")
    if swaps:
        found["swap_free"] = sum(_free_kb(line) for line in swaps[1:]) // 1024
    return found


def _free_kb(line: str) -> int:
    """Free KiB of a line of /proc/swaps: name, type, size, used, priority. The kernel escapes spaces in names."""
    fields = line.split()
    if len(fields) != 5 or os.path.basename(fields[0]).startswith("zram"):
        return 0
    size, used = fields[2:4]
    return max(0, int(size) - int(used)) if size.isdigit() and used.isdigit() else 0


def _lines(root: str, path: str) -> list[str]:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def check_build(onnx_bytes: int, workspace_mb: int, root: str = "/") -> dict[str, int]:
    """Refuse a build that cannot succeed with the memory that is free.

    Returns:
        `available`, `swap_free` and `wanted` in MiB.

    Raises:
        JobError: less is free than the libraries, the weights and the workspace limit take.
    """
    free = free_mb(root)
    wanted = _BASE_MB + _PER_ONNX_BYTE * onnx_bytes // 2**20 + workspace_mb
    total = free.get("available", wanted) + free.get("swap_free", 0)
    if total < wanted:
        raise JobError(
            f"the device has {total} MiB of memory free ({free.get('swap_free', 0)} MiB of it swap on disk), "
            f"a build needs about {wanted} MiB",
            _FIX,
            "memory",
        )
    return dict(free, wanted=wanted)
