"""The script for a GPU machine, run on the CPU with little data: nothing there may fail because a name is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"
LACKING = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec
lacking = lambda name, *rest: None if name.partition(".")[0] in {names} else found(name, *rest)
PathFinder.find_spec = staticmethod(lacking)
"""


def _run(
    out: Path, *arguments: str, lacking: tuple[str, ...] = ()
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The script on little data, perhaps on a machine that lacks packages; what it wrote, with the checks by name."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if lacking:
        (out / "sitecustomize.py").write_text(LACKING.format(names=set(lacking)))
        environment["PYTHONPATH"] = os.pathsep.join([str(out), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        # A busy machine may take as long as it likes; what the limit does is tested in gpu/test_run.py.
        [sys.executable, str(SCRIPT), "--out", str(out), "--tiny", "--minutes", "60", *arguments],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    path = out / "gpu_check.json"
    found = json.loads(path.read_text()) if path.is_file() else {"checks": []}
    return done, found | {"checks": {row["name"]: row for row in found["checks"]}}


def test_every_check_but_the_slow_one_passes(tmp_path: Path) -> None:
    """Protects an hour on a rented machine: each check runs, judges itself, and says what it measured."""
    names = ["losses", "figkd", "amp", "cache", "resume", "speed_64"]
    done, summary = _run(tmp_path, "--device", "cpu", "--checks", *names)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: row["found"] for name, row in summary["checks"].items()}
    assert list(found) == names and summary["counts"]["passed"] == len(names)
    assert found["losses"]["methods"].keys() >= {"ce", "kd"}
    assert found["figkd"]["ways"].keys() >= {"default", "class tree"}
    assert found["cache"]["views"]["shifts"]["largest_grey_level"] == 0
    speed = found["speed_64"]
    assert speed["speedup_cached"]["n"] == 2
    assert 0 < speed["limits"]["ours_cached"]["share_of_matmul_rate"] < 1
    assert "torch" in summary["machine"] and summary["state"] == "passed"
    lines = done.stdout.splitlines()
    assert "x the usual loop" in lines[5] and lines[-1].startswith("passed: 6 passed, 0 failed")


def test_what_a_bare_machine_lacks_costs_its_own_checks_alone(tmp_path: Path) -> None:
    """Protects a machine that has torch and little else: the rest still runs, and the exit code tells."""
    lacking = (
        "pywt", "torchvision", "annotated_types", "pydantic", "scipy", "onnx", "tensorrt", "timm", "yaml",
    )  # fmt: skip
    names = ["losses", "figkd", "speed_64", "limit_64", "tensorrt"]
    done, summary = _run(tmp_path, "--device", "cpu", "--checks", *names, lacking=lacking)
    assert done.returncode == 4, done.stdout + done.stderr
    rows = summary["checks"]
    assert [rows[name]["state"] for name in ("losses", "limit_64")] == ["passed", "passed"], done.stdout
    why = {name: rows[name]["why"] for name in rows if rows[name]["state"] == "not run"}
    assert why["figkd"] == "No module named 'pywt'" and why["speed_64"] == "No module named 'torchvision'"
    assert why["tensorrt/parity"] == "No module named 'onnx'"
    assert len(why) == len(rows) - 2
    assert 0 < rows["limit_64"]["found"]["share"]["training"]["median"] < 1


def test_without_torch_nothing_of_training_is_run(tmp_path: Path) -> None:
    done, summary = _run(tmp_path, "--device", "cpu", "--checks", "losses", "resume", lacking=("torch",))
    assert done.returncode == 4, done.stdout + done.stderr
    assert {row["why"] for row in summary["checks"].values()} == {"No module named 'torch'"}


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    done, _ = _run(tmp_path, "--checks", "loses")
    assert done.returncode == 2 and "invalid choice: 'loses'" in done.stderr


@pytest.mark.slow
def test_compilation(tmp_path: Path) -> None:
    """Protects the compiled loop."""
    done, _ = _run(tmp_path, "--device", "cpu", "--checks", "compile")
    assert done.returncode == 0, done.stdout


def test_without_a_gpu_it_says_that_nothing_was_run(tmp_path: Path) -> None:
    """`make gpu-check` tells "failed" (1) from "not run" (4), and its file claims nothing."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done, summary = _run(tmp_path, "--checks", "losses", "tensorrt", "tensorrt_rtx")
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stdout.count("no GPU") == 3
    assert {row["state"] for row in summary["checks"].values()} == {"not run"}
    assert summary["counts"] == {"passed": 0, "failed": 0, "not applicable": 0, "not run": 37}
