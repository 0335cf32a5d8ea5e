"""A user's own `pipeline/` or `export/` must not break the command: every way to start it, every kind of folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from figkd_pipeline import PACKAGES
from pipeline.devices.archive import agent_archive
from tests.pipeline.conftest import FONTS, ROOT

# What the installed script does; -P, since a script's first entry of sys.path is its own folder.
SCRIPT = ["-P", "-c", "from figkd_pipeline.__main__ import main; main()"]
MODULE = ["-m", "figkd_pipeline"]
OLD_MODULE = ["-m", "pipeline.cli"]
CHECK = ["config", "check", str(FONTS)]


def _python(words: list[str], cwd: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """A Python of its own, with these folders before the project's in PYTHONPATH."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def _shadow(root: Path, name: str, kind: str) -> Path:
    """A folder (or module) of the user's under one of our names; importing it would be seen."""
    code = f"raise RuntimeError('the user\\'s {name} was imported')\n"
    if kind == "module":
        (root / f"{name}.py").write_text(code)
        return root
    folder = root / name
    folder.mkdir()
    (folder / ("__init__.py" if kind == "package" else "cli.py")).write_text(code)
    return root


@pytest.mark.parametrize("kind", ["package", "namespace", "module"])
@pytest.mark.parametrize("start", [SCRIPT, MODULE], ids=["script", "module"])
def test_the_command_uses_its_own_packages(tmp_path: Path, start: list[str], kind: str) -> None:
    """All three names, in the working directory and on PYTHONPATH at once."""
    for name in PACKAGES:
        _shadow(tmp_path, name, kind)
    done = _python([*start, *CHECK], tmp_path, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "ok" in done.stdout


def test_python_m_pipeline_cli_survives_what_does_not_hide_itself(tmp_path: Path) -> None:
    """The older way to start, of which torchrun's `-m` is one: `pipeline` itself is ours there."""
    for name in ("export", "figkd"):
        _shadow(tmp_path, name, "package")
    done = _python([*OLD_MODULE, *CHECK], tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("kind", ["pipeline", "pipeline.py", "export"])
def test_what_was_imported_already_is_named(tmp_path: Path, kind: str) -> None:
    """A start-up file of Python that imports the user's own cannot be helped: one message, exit code 4."""
    place, name = tmp_path / kind, kind.removesuffix(".py")
    if place.suffix:
        place.touch()
    else:
        place.mkdir()
        (place / "__init__.py").touch()
    (tmp_path / "sitecustomize.py").write_text(f"import {name}\n")
    done = _python([*MODULE, *CHECK], tmp_path, tmp_path)
    assert done.returncode == 4 and done.stdout == ""
    first, fix = done.stderr.splitlines()
    assert first == f"error: {place} was imported as `{name}` instead of {ROOT / name}"
    assert fix.startswith("  fix: ")


def test_the_devices_archive_uses_its_own_package(tmp_path: Path) -> None:
    """On a device the agent runs from its archive, whatever lies in the working directory or on PYTHONPATH."""
    program = tmp_path / "agent.pyz"
    program.write_bytes(agent_archive().content)
    for name in ("pipeline", "export", "figkd_agent"):
        _shadow(tmp_path, name, "package")
    (tmp_path / "folder").mkdir()
    done = _python([str(program), "serve", str(tmp_path / "folder"), "5"], tmp_path, tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
