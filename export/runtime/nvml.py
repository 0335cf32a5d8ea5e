"""Clocks of a desktop GPU through NVML, by ctypes: no package is needed, and no process is started."""

from __future__ import annotations

import ctypes
from typing import Any, Callable, Union

Value = Union[int, float, str]
LIBRARY = "libnvidia-ml.so.1"
# Of nvml.h.
_SM, _MEMORY = 1, 2


def clocks(load: Callable[[str], Any] = ctypes.CDLL) -> dict[str, dict[str, Value]]:
    """MHz of the first GPU: `gpu` and `memory` with `mhz` and `max_mhz`, `gpu` also with `app_mhz`.

    `app_mhz` is the applications clock, what the GPU runs at under load while nothing slows it down. NVML does not tell
    whether clocks are locked. What cannot be read is left out.
    """
    try:
        library = load(LIBRARY)
        if library.nvmlInit_v2() != 0:
            return {}
    except (OSError, AttributeError):
        return {}
    found: dict[str, dict[str, Value]] = {"gpu": {}, "memory": {}}
    try:
        device = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0:
            for part, kind in (("gpu", _SM), ("memory", _MEMORY)):
                for key, call in (
                    ("mhz", "nvmlDeviceGetClockInfo"),
                    ("max_mhz", "nvmlDeviceGetMaxClockInfo"),
                    ("app_mhz", "nvmlDeviceGetApplicationsClock"),
                ):
                    value = ctypes.c_uint()
                    function = getattr(library, call, None)
                    if (key != "app_mhz" or part == "gpu") and function is not None:
                        if function(device, kind, ctypes.byref(value)) == 0:
                            found[part][key] = value.value
    finally:
        library.nvmlShutdown()
    return {part: values for part, values in found.items() if values}
