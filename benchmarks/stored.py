"""Stored results, and how they are written as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def where(result: Any) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    load = result["machine"].get("load_1min")
    busy = f", load {load:.1f} at the end" if load is not None else ""
    return f"{result['machine']['cpu']}, {result['machine']['cores']} cores{busy}; {versions}."


def span(found: Any, digits: int = 2) -> str:
    return f"{found['ratio']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
