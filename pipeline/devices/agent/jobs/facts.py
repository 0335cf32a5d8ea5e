"""`facts`: what this device is and has."""

from __future__ import annotations

from typing import Any, Callable

from .. import board


def run(request: dict[str, Any], folder: str, emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """See `board.facts`."""
    return board.facts(folder)
