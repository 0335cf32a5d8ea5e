"""`facts`: what this device is."""

from __future__ import annotations

import os
import platform
from typing import Any, Callable


def run(request: dict[str, Any], folder: str, emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Facts of the machine, as far as the standard library tells them."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
    }
