"""Importing this package makes `figkd`, `export` and `pipeline` the ones that were installed together with it.

`pipeline` and `export` are common names. A folder so called in the working directory (`python -m`) or on PYTHONPATH
comes before the installed package in `sys.path`. Every way to start the command imports this package first: nobody else
uses its name. It needs the standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGES = ("export", "figkd", "pipeline")
# Not resolved: installers may link each file to a cache of their own.
HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Neighbours:
    """Finds the packages beside this one before `sys.path` is searched."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [HOME], target) if name in PACKAGES else None


sys.meta_path.insert(0, _Neighbours())


def foreign_packages() -> dict[str, str]:
    """Packages of the same names that were imported before this one: name -> the folder or file they came from."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        if (module := sys.modules.get(name)) is None:
            continue
        own = os.path.realpath(os.path.join(HOME, name))
        places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None) or "(built in)"]
        if os.path.realpath(places[0]) != own:
            found[name] = places[0]
    return found
