"""Which options of TensorRT's builder each way of building honours; what it does not honour is refused, never dropped.

The ways: `local` (this machine's Python API), `python` (a device's), `trtexec` (a device's command line).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Literal

from export.engines.options import LIBRARYS_LEVEL, TensorRTOptions

Way = Literal["local", "python", "trtexec"]

_EVERYWHERE = frozenset({"strong_typing", "optimization_level", "workspace_mb", "timing_caches"})
HONOURED: Mapping[Way, frozenset[str]] = {
    "local": frozenset(field.name for field in fields(TensorRTOptions)),
    "python": _EVERYWHERE | {"tactic_dram_mb"},
    "trtexec": _EVERYWHERE,  # `--memPoolSize` has no pool of that kind (8.5 to 11.1)
}
"""Way to names of `TensorRTOptions`, as far as the version has them."""
WORDS: Mapping[Way, str] = {
    "local": "",
    "python": " on a device",
    "trtexec": " through trtexec",
}
"""What messages say of a way, after the library's name."""
_TACTIC_DRAM = (
    "leave tactic_dram_mb out and lower workspace_mb, or install TensorRT's Python API there (sudo apt install "
    "python3-libnvinfer)"
)


def asked(options: TensorRTOptions) -> frozenset[str]:
    """Names of the options that ask for something else than what the library does by itself."""
    default = TensorRTOptions()
    found = {name for name in HONOURED["local"] if getattr(options, name) != getattr(default, name)}
    return frozenset(
        found - ({"optimization_level"} if options.optimization_level == LIBRARYS_LEVEL else set())
    )


def not_honoured(way: Way, options: TensorRTOptions, *, tactic_dram: bool) -> Mapping[str, str]:
    """Options that are asked for and that a way of building does not take, whatever the version; each with the fix.

    Args:
        way: how engines are built.
        options: what was asked for.
        tactic_dram: whether the version has a limit on tactic memory.
    """
    names = sorted(asked(options) - HONOURED[way])
    return {
        name: _TACTIC_DRAM if name == "tactic_dram_mb" and tactic_dram else f"leave {name} out"
        for name in names
    }
