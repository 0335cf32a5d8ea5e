"""Protects training on a machine that does other work: threads of torch that wait must not burn the others' time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from figkd_pipeline.openmp import SPINS, spin_briefly

ROOT = Path(__file__).parents[1]
# What the command does before anything imports torch; its own imports and its end are left out.
_COMMAND = """
import sys, types
cli = types.ModuleType("pipeline.cli")
cli.main = lambda: __import__("torch")
sys.modules["pipeline.cli"] = cli
from figkd_pipeline.__main__ import main
main()
"""


def test_threads_spin_briefly() -> None:
    environment = {"HOME": "/"}
    spin_briefly(environment)
    assert environment == {"HOME": "/", "GOMP_SPINCOUNT": str(SPINS)}


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_chose_stays(chosen: dict[str, str]) -> None:
    environment = dict(chosen)
    spin_briefly(environment)
    assert environment == chosen


def test_the_command_limits_spinning_before_torch_is_loaded() -> None:
    """OpenMP reads the variable when it is loaded: set later, it would do nothing. Here the library itself says it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP library than GNU's")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr
