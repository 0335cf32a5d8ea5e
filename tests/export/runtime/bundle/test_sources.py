"""What runs a bundle is Python 3.8, the standard library and numpy; Pillow and an engine only where they are used."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[4] / "export/runtime"
SOURCES = sorted([*RUNTIME.glob("bundle/*.py"), *RUNTIME.glob("serve/*.py")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_python_3_8_reads_it_and_little_else_is_needed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for top in (name.split(".")[0] for name in names):
            assert top in {*sys.stdlib_module_names, "numpy", "PIL"}, f"line {node.lineno}: {top}"
            assert node not in tree.body or top != "PIL", f"line {node.lineno}: Pillow is imported too early"
