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
    """`available` and `swap_free` in MiB; empty where they cannot be read."""
    names = {"MemAvailable": "available", "SwapFree": "swap_free"}
    found: dict[str, int] = {}
    try:
        with open(os.path.join(root, "proc/meminfo")) as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in names:
                    found[names[name]] = int(value.split()[0]) // 1024
    except (OSError, ValueError):
        return {}
    return found


def check_build(onnx_bytes: int, workspace_mb: int, root: str = "/") -> dict[str, int]:
    """Refuse a build that cannot succeed for want of memory.

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
            f"the device has {total} MiB of memory free ({free.get('swap_free', 0)} MiB of it swap), "
            f"a build needs about {wanted} MiB",
            _FIX,
            "memory",
        )
    return dict(free, wanted=wanted)
