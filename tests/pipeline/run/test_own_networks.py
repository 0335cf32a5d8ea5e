"""Protects `model: module:function` from the config to the ONNX file: keys, preflight, doctor, plan, torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.run.own_networks import own_network_faults
from tests.pipeline.conftest import FONTS, TINY, command, environment, figkd, sets

NETS = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.head = nn.Linear(8, num_classes)
    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))

def make(num_classes):
    return Net(num_classes)
"""
OWN = TINY | {
    "teacher.model": "nets:make",
    "teacher.epochs": 1,
    "student.model": "nets:make",
    "distill.epochs": 1,
}


def _folder(folder: Path, text: str = NETS) -> list[str | Path]:
    """A config that extends the demonstration, with a network beside it; the arguments of a command."""
    (folder / "nets.py").write_text(text)
    (folder / "own.yaml").write_text(f"extends: {FONTS}\nname: own\n")
    return ["own.yaml", *sets(OWN)]


def _faults(folder: Path, text: str, **changes: object) -> list[str]:
    arguments = _folder(folder, text)
    config = load_config(folder / "own.yaml", [*arguments[2::2], *(f"{k}={v}" for k, v in changes.items())])  # type: ignore[list-item]
    return [f"{fault.head} | {fault.fix}" for fault in own_network_faults(config)]


def test_a_run_with_networks_of_ones_own(tmp_path: Path) -> None:
    """From the teacher to the ONNX file; then everything is cached until the source changes, wherever it lies."""
    arguments = _folder(tmp_path)
    done = figkd("run", *arguments, "--until", "export", cwd=tmp_path)
    assert done.code == 0, done.err
    plan = figkd("plan", *arguments, "--until", "export", "--json", cwd=tmp_path)
    assert {row["state"] for row in plan.json} == {"cached"}
    (tmp_path / "elsewhere").mkdir()
    for name in ("nets.py", "own.yaml"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    moved = figkd("plan", "elsewhere/own.yaml", *arguments[1:], "--until", "export", "--json", cwd=tmp_path)
    assert {row["state"] for row in moved.json} == {"cached"}
    with (tmp_path / "elsewhere/nets.py").open("a") as file:
        file.write("# another\n")
    changed = figkd("plan", "elsewhere/own.yaml", *arguments[1:], "--until", "export", "--json", cwd=tmp_path)
    rows = {row["step"]: row for row in changed.json}
    assert rows["data"]["state"] == "cached"
    assert rows["teacher"]["reason"] == "source:network has other contents"


def test_good_networks_have_no_fault(tmp_path: Path) -> None:
    assert _faults(tmp_path, NETS) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("def make(", "def other(", "has no function 'make' | it has"),
        ("(x).relu()", "(x).relu().detach() * 0 + x[:, :1]", "shape"),
        ("return self.head(", "return self.head.weight.detach() @ (", "does not take images"),
        ("return self.head(", "with torch.no_grad():\n            return self.head(", "cannot be trained"),
        ("        self.head =", "        self.norm = nn.BatchNorm1d(8)\n        self.head =", ""),
        (
            "return self.head(",
            "if self.training:\n            return x\n        return self.head(",
            "(2, 3, 32, 32) for two images in training, not (2, 2)",
        ),
        ("return self.head(", "return torch.nan * self.head(", "not finite"),
        (
            "return self.head(",
            "x = torch.linalg.svd(x)[0]\n        return self.head(",
            "nets:make cannot be exported",
        ),
    ],
)
def test_each_fault_is_told_before_training(tmp_path: Path, old: str, new: str, told: str) -> None:
    """Once for each network, with its key."""
    faults = _faults(tmp_path, NETS.replace(old, new))
    if not told:
        assert faults == []
        return
    assert any(told in fault for fault in faults), faults
    assert all(fault.startswith(("teacher.model: ", "student.model: ")) for fault in faults)


def test_doctor_and_run_refuse_a_broken_network(tmp_path: Path) -> None:
    """Exit code 2 with one message for each, and nothing is made."""
    arguments = _folder(tmp_path, NETS.replace("return Net(num_classes)", "return Net"))
    done = figkd("run", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert "student.model" in done.err and "returns the class Net" in done.err
    assert not list(tmp_path.glob(".figkd/artifacts/*"))
    found = figkd("doctor", *arguments, cwd=tmp_path)
    assert "returns the class Net" in found.out + found.err
    assert found.code != 0


@pytest.mark.slow
def test_workers_of_torchrun_build_it_too(tmp_path: Path) -> None:
    """The other processes get the file's place with their work."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = command("run", *_folder(tmp_path), "--until", "distill")[1:]
    done = subprocess.run(
        [*launcher, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (metrics,) = (tmp_path / ".figkd/artifacts/distill").glob("*/metrics.json")
    assert json.loads(metrics.read_text())["model"] == "nets:make"


def test_a_network_that_fails_in_training_is_no_defect_of_ours(tmp_path: Path) -> None:
    """It works with the few images of preflight: the message names its line, and nobody is asked to report it."""
    text = NETS.replace(
        "        return self.head",
        "        assert not self.training or len(x) < 8, 'no'\n        return self.head",
    )
    done = figkd("run", *_folder(tmp_path, text), "--until", "teacher", cwd=tmp_path)
    assert done.code == 1 and "nets.py:10 raised AssertionError: no" in done.err, done.err
    assert "correct the network" in done.err and "report it" not in done.err
