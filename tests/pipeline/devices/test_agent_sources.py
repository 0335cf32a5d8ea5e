"""What is sent to a device: Python 3.8, the standard library, the shared runtime, and what is imported where it is
present."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.devices.archive import agent_archive
from tests.old_python import old_pythons

AGENT = Path(__file__).parents[3] / "pipeline/devices/agent"
SOURCES = sorted(AGENT.rglob("*.py"))
# Present on a device, or a reason to say that they are missing.
OPTIONAL = {"PIL", "onnxruntime", "tensorrt", "tensorrt_rtx"}
NUMPY = {"batches", "engines", "jobs.infer", "jobs.time", "trtexec_engine", "trtexec_json"}
"""Modules that run engines. A device without numpy can still say what it is, and build."""


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
            if name.startswith("export.runtime"):
                continue
            assert top == "numpy" or top in sys.stdlib_module_names or top in OPTIONAL, (
                f"line {node.lineno}: {name}"
            )  # type: ignore[attr-defined]
            at_the_top = node in tree.body
            assert not (at_the_top and top in OPTIONAL), (
                f"line {node.lineno}: {name} is imported where it is used"
            )


def test_its_archive_imports_in_an_old_python(tmp_path: Path) -> None:
    """For real, where Python 3.8 to 3.10 is installed, with numpy or without."""
    found = old_pythons()
    if not found:
        pytest.skip("no older Python here")
    program = tmp_path / "agent.pyz"
    program.write_bytes(agent_archive().content)
    parts = [path.relative_to(AGENT).with_suffix("").parts for path in SOURCES if path.stem != "__main__"]
    wanted = [".".join(("figkd_agent", *p)).removesuffix(".__init__") for p in parts]
    done = subprocess.run(
        [found[0], "-c", _IMPORT, program, *wanted], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    *missing, last = done.stdout.splitlines()
    assert {name.partition(".")[2] for name in missing} <= NUMPY
    assert last == ("missing: sudo apt install python3-numpy on the device" if missing else "a job")


_IMPORT = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if error.name != "numpy":
            raise
        print(name)
from figkd_agent import errors, work
try:
    print("a job" if work._job("infer") else "")
except errors.JobError as error:
    print(error.kind + ": " + error.fix)
"""
