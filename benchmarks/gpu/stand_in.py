"""What a bare machine lacks and the training needs in name only."""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import make_dataclass
from types import ModuleType


def annotations_at_least() -> None:
    """The names of `annotated_types` that `figkd` writes the ranges of its options with, where it is not installed."""
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("annotated_types")
        return
    module = ModuleType("annotated_types")
    for name, field in (("Ge", "ge"), ("Gt", "gt"), ("Le", "le"), ("Lt", "lt"), ("MaxLen", "max_length")):
        setattr(module, name, make_dataclass(name, [field], frozen=True))
    sys.modules["annotated_types"] = module
