"""What the tests ask of a data set that is not prepared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data import examine


def check(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> list[str]:
    """Its problems, as texts "what; what to do"."""
    problems = examine(dataset, root, options).problems
    return [f"{error.what}; {error.fix}" if error.fix else error.what for error in problems]
