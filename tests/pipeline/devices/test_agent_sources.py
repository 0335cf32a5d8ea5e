"""What is sent to a device: Python 3.8, the standard library, and what is imported where it is present."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

AGENT = Path(__file__).parents[3] / "pipeline/devices/agent"
SOURCES = sorted(AGENT.rglob("*.py"))
# Present on a device, or a reason to say that they are missing.
OPTIONAL = {"numpy", "PIL", "onnxruntime", "tensorrt", "tensorrt_rtx"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(AGENT).as_posix())
def test_python_3_8_reads_it_and_the_standard_library_suffices(path: Path) -> None:
    """No syntax, no module and no runtime type that a JetPack 5 lacks."""
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top in OPTIONAL, f"line {node.lineno}: {name}"  # type: ignore[attr-defined]
            at_the_top = node in tree.body
            assert not (at_the_top and top in OPTIONAL), (
                f"line {node.lineno}: {name} is imported where it is used"
            )


def test_it_imports_in_an_old_python() -> None:
    """For real, where Python 3.8 to 3.10 is installed."""
    found = sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python"))
    found += [p for version in ("3.8", "3.9", "3.10") if (p := Path(f"/usr/bin/python{version}")).exists()]
    if not found:
        pytest.skip("no older Python here")
    parts = [path.relative_to(AGENT).with_suffix("").parts for path in SOURCES if path.stem != "__main__"]
    wanted = [".".join(("pipeline.devices.agent", *p)).removesuffix(".__init__") for p in parts]
    code = "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1:]]"
    done = subprocess.run(
        [found[0], "-c", code, *wanted], cwd=AGENT.parents[2], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
