"""Protects training on a machine that does other work: threads of torch that wait must not burn the others' time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from figkd_pipeline.openmp import SPINS, choose_waiting, others_at_work, spare_cpus

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


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        (0.0, {"GOMP_SPINCOUNT": str(SPINS)}),
        (0.2, {"GOMP_SPINCOUNT": str(SPINS)}),
        (3.0, {"OMP_WAIT_POLICY": "PASSIVE"}),
    ],
)
def test_threads_sleep_where_others_want_the_cpu(others: float, chosen: dict[str, str]) -> None:
    environment = {"HOME": "/"}
    choose_waiting(environment, lambda: others + spare_cpus())
    assert environment == {"HOME": "/", **chosen}


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_chose_stays(chosen: dict[str, str]) -> None:
    environment = dict(chosen)
    choose_waiting(environment, lambda: 99.0)
    assert environment == chosen


@pytest.mark.parametrize(
    ("text", "others"),
    [("0.10 0.20 0.30 4/243 99\n", 3.0), ("0.10 0.20 0.30 1/243 99\n", 0.0), ("what?", 0.0), ("", 0.0)],
)
def test_who_wants_the_cpu_is_read_from_the_system(tmp_path: Path, text: str, others: float) -> None:
    """Protects against a system that tells nothing: then the machine counts as idle, and nothing fails."""
    (tmp_path / "loadavg").write_text(text)
    assert others_at_work(tmp_path / "loadavg") == others
    assert others_at_work(tmp_path / "none") == 0.0


def test_the_command_decides_before_torch_is_loaded() -> None:
    """OpenMP reads the variables when it is loaded; set later, they would do nothing. Here the library says them."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has another OpenMP library than GNU's")
    assert any(f"GOMP_SPINCOUNT = '{count}'" in done.stderr for count in (0, SPINS)), done.stderr
