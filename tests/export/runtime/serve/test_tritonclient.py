"""Protects: an unmodified `tritonclient` from PyPI, against a bundle that serves itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.runtime.bundle import UNSIGNED, load
from tests.export.bundle.tiny import NAMES, bundle
from tests.export.runtime.serve.made import process
from tests.pipeline.devices.tiny import images


@pytest.fixture(scope="session")
def triton_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with tritonclient: `FIGKD_TRITON_PYTHON`, or an environment made for this."""
    if given := os.environ.get("FIGKD_TRITON_PYTHON"):
        return Path(given)
    place = tmp_path_factory.mktemp("tritonclient")
    subprocess.run([sys.executable, "-m", "venv", place], check=True, timeout=300)
    inside = place / "bin/python"
    packages = [inside, "-m", "pip", "install", "--quiet", "tritonclient[http]"]
    done = subprocess.run(packages, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"tritonclient cannot be installed here: {done.stderr[-300:]}")
    return inside


@pytest.mark.slow
def test_all_that_it_asks(triton_python: Path, tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    stored = images(9)
    with load(folder, UNSIGNED) as model:
        np.save(tmp_path / "logits.npy", model.answers(stored))
    np.save(tmp_path / "images.npy", stored)
    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    script = Path(__file__).with_name("triton_client.py")
    with process("--unsigned", program=folder / "run.pyz") as (_, port):
        command = [triton_python, script, f"127.0.0.1:{port}", tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 106
