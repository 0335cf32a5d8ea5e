"""Small JSON and file helpers: everything is written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from figkd.files import Json, read_bytes, read_json, write_bytes

__all__ = ["Json", "read_bytes", "read_json", "write_bytes", "write_json", "write_text"]


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented, key-sorted JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    write_bytes(path, text.encode("utf-8"))
