"""The script for a GPU machine, run on the CPU with little data: nothing there may fail because a name is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


def _run(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(out), "--device", "cpu", "--tiny", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_every_part_but_the_slow_one_passes(tmp_path: Path) -> None:
    """Protects an hour on a rented machine: each part runs, judges itself, and leaves its file."""
    parts = ["losses", "cache", "amp", "resume", "speed_64"]
    done = _run(tmp_path, "--here", "--parts", *parts)
    assert done.returncode == 0, done.stderr
    found = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in parts}
    assert all(result["passed"] for result in found.values())
    assert found["losses"]["methods"].keys() >= {"ce", "kd", "figkd"}
    assert found["cache"]["views"]["shifts"]["largest_grey_level"] == 0
    speed = found["speed_64"]
    assert speed["speedup_cached"]["n"] == 2
    assert 0 < speed["limits"]["ours_cached"]["share_of_matmul_rate"] < 1
    assert "torch" in speed["machine"]
    assert "x the usual loop" in done.stdout


def test_a_part_that_takes_too_long_is_recorded(tmp_path: Path) -> None:
    """Protects the time limit: the part is stopped, its file says so, and the exit code tells."""
    done = _run(tmp_path, "--parts", "losses", "--minutes", "0.001")
    assert done.returncode == 1
    said = json.loads((tmp_path / "losses.json").read_text())
    assert not said["passed"] and said["error"] == "not done within 0.001 minutes"
    assert "FAILED losses" in done.stdout


def test_what_the_time_did_not_reach_is_named(tmp_path: Path) -> None:
    """Protects a machine that is lent for minutes: all ends in time, and nobody takes what did not run for passed."""
    done = _run(tmp_path, "--parts", "losses", "amp", "--total", "0.001")
    assert done.returncode == 1
    assert "FAILED losses" in done.stdout and "not run amp: the 0.001 minutes are over" in done.stdout
    assert not (tmp_path / "amp.json").exists()


@pytest.mark.slow
def test_compilation(tmp_path: Path) -> None:
    """Protects the compiled loop and loss."""
    done = _run(tmp_path, "--parts", "compile")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_study(tmp_path: Path) -> None:
    """Protects the study of methods from end to end: tuning, comparison, controls, table, figure, result."""
    done = _run(tmp_path, "--parts", "study")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "study.json").read_text())
    names = [row["method"] for row in found["rows"]]
    controls = ["default, without the detail", "figkd, random order"]
    # Of the default recipe and the detail alone, the one that was not chosen has a row of its own.
    assert names[:2] == ["kd", "figkd"] and names[3:] == controls
    assert names[2] in ("figkd, default recipe", "figkd, detail alone")
    assert all(row["n"] == 2 for row in found["rows"])
    assert sum(trial["chosen"] for trial in found["tuning"]) == 2
    assert "| **figkd** | 2 |" in done.stdout


def test_without_a_gpu_it_says_that_nothing_was_run(tmp_path: Path) -> None:
    """`make gpu-check` tells "failed" (1) from "not run" (4)."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 4 and "no GPU: these checks were not run" in done.stderr
