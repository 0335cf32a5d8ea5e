"""Older Pythons of this machine, for what runs on devices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

__all__ = ["old_python", "old_pythons"]


def old_pythons() -> list[Path]:
    """Python 3.8 to 3.10, where installed: the oldest first."""
    found = sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python"))
    return found + [p for minor in (8, 9, 10) if (p := Path(f"/usr/bin/python3.{minor}")).exists()]


@pytest.fixture(scope="session")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The oldest of them in an environment with ONNX Runtime and numpy, from PyPI."""
    python = next(iter(old_pythons()), None)
    if python is None:
        pytest.skip("no older Python here")
    place = tmp_path_factory.mktemp("old_python") / "venv"
    subprocess.run([python, "-m", "venv", place], check=True, timeout=300)
    inside = place / "bin/python"
    packages = [inside, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy"]
    done = subprocess.run(packages, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"the packages cannot be installed here: {done.stderr[-300:]}")
    return inside
