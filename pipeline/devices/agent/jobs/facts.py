"""`facts`: what this device is and has."""

from __future__ import annotations

from .. import board
from ..requests import Answer, Emit


def run(request: object, folder: str, emit: Emit) -> Answer:
    """See `board.facts`."""
    return board.facts(folder)
