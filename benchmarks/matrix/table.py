"""The matrix's JSON as the tables of docs/students.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_table(result: dict[str, Any], doc: Path) -> None:
    raise NotImplementedError
