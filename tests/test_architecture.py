"""The rules that keep the packages apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {"figkd": {"export", "pipeline"}, "export": {"figkd", "pipeline"}}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_libraries_do_not_know_the_conductor_nor_each_other(package: str) -> None:
    """Someone may use `figkd` or `export` without the rest."""
    for path in (ROOT / package).rglob("*.py"):
        assert not _imports(path) & FORBIDDEN[package], path


def test_only_the_config_reads_yaml() -> None:
    """Nothing below the config reaches back into files or the environment of the user's shell."""
    for package in ("figkd", "export", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            inside_config = path.is_relative_to(ROOT / "pipeline" / "config")
            shows = {ROOT / "pipeline/cli.py", ROOT / "pipeline/report/html.py"}  # they print YAML
            if not inside_config and path not in shows:
                assert "yaml" not in _imports(path), path
            on_device = path.is_relative_to(ROOT / "pipeline/devices/agent")  # it starts programs there
            assert on_device or "os.environ" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("package", ["figkd", "export", "pipeline", "figkd.data", "pipeline.stages"])
def test_packages_import_no_framework(package: str) -> None:
    """Importing a package is quick; heavy modules come when they are used."""
    heavy = {"torch", "onnx", "onnxruntime", "timm", "matplotlib"}
    code = f"import sys, {package}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
