"""How long threads spin is said before OpenMP's library is loaded, and only where the user has not said it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from figkd_pipeline.openmp import SPINS, spin_briefly

ROOT = Path(__file__).parents[2]
_COMMAND = """
import os, sys
import figkd_pipeline.__main__ as command, pipeline.cli
pipeline.cli.main = lambda: print(os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
command.main()
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, SPINS),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, None),
        ({"OMP_WAIT_POLICY": ""}, SPINS),
    ],
)
def test_what_the_user_chose_stays(given: dict[str, str], expected: str | None) -> None:
    environ = dict(given)
    spin_briefly(environ)
    assert environ.get("GOMP_SPINCOUNT") == expected


def test_the_command_says_so_before_torch_is_loaded() -> None:
    """Protects the effect: the library reads its environment once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND], capture_output=True, text=True, timeout=60,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == [SPINS, "False"], done.stderr
