"""The list of a built engine's layers as the library tells it, in a file that the host reads (`export.engines`)."""

from __future__ import annotations

import os

from export.runtime.files import write_bytes

FILE = "layers.txt"
"""In the job's folder: the engine inspector's JSON, or the message of TensorRT-RTX's builder."""
MOST = 16 << 20
"""Bytes that the host takes."""


def keep(text: str) -> None:
    """Write `FILE`; nothing where there is no list."""
    if text:
        write_bytes(FILE, text.encode())


def kept() -> str:
    """`FILE` if there is one that the host takes, else ''."""
    return FILE if os.path.isfile(FILE) and 0 < os.path.getsize(FILE) <= MOST else ""
