"""Protects: hours of training never go to the CPU unasked where there is a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from export.nvidia import Gpu
from pipeline.config import load_config
from pipeline.core.errors import EnvironmentFault
from pipeline.core.store import Store
from pipeline.run import doctor
from pipeline.run.accelerator import Torch, idle_gpu, judge
from pipeline.run.planning import plan
from pipeline.run.preflight import preflight
from tests.pipeline.conftest import FONTS

RTX = Gpu("NVIDIA GeForce RTX 4090", "550.54.14")


@pytest.mark.parametrize(
    ("gpu", "installed", "says", "fix"),
    [
        (RTX, Torch("2.14.1+cu130", "13.0", False), "driver 550.54.14 is too old for CUDA 13.0.*R580", "update"),
        (RTX, Torch("2.14.1+cu126", "12.6", False), "PyTorch 2.14.1.cu126 cannot use it", "nvidia-smi"),
        (RTX, Torch("2.14.1+cpu", "", False), "built without CUDA", "install PyTorch with CUDA"),
        (Gpu("an NVIDIA GPU"), Torch("2.14.1", "13.0", False), "cannot use it", "restart"),
    ],
)  # fmt: skip
def test_why_a_gpu_is_idle(gpu: Gpu, installed: Torch, says: str, fix: str) -> None:
    """The driver by its number where that is the cause; and always how to go on without."""
    idle = judge(gpu, installed)
    assert idle is not None and fix in idle.fix and "allow_cpu: true" in idle.fix and "\n" not in idle.what
    assert re.search(says, idle.what)
    assert idle.what.startswith(f"training would take the CPU although {gpu.name} is here")


def test_a_gpu_in_use_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a machine without one."""
    assert judge(RTX, Torch("2.14.1", "13.0", True)) is None
    monkeypatch.setattr("pipeline.run.accelerator.present", lambda: None)
    assert idle_gpu() is None


def test_a_run_is_refused_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, exit code of the environment; with `allow_cpu: true` it goes on, and so does a run that trains not."""
    monkeypatch.setattr("pipeline.run.accelerator.present", lambda: RTX)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    config = load_config(FONTS, [f"store={tmp_path}"])
    planned = plan(config, Store(config.store.folder))
    with pytest.raises(EnvironmentFault, match=r"550\.54\.14 is too old for CUDA 13\.0, .* R580") as caught:
        preflight(config, planned, lambda text: None)
    assert int(caught.value.exit_code) == 4 and "allow_cpu: true" in caught.value.fix
    preflight(load_config(FONTS, [f"store={tmp_path}", "allow_cpu=true"]), planned, lambda text: None)
    preflight(config, [p for p in planned if p.step.id == "data"], lambda text: None)


@pytest.mark.parametrize(("allow", "state"), [(False, "fault"), (True, "absent")])
def test_doctor_says_the_same(allow: bool, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the driver that it has."""
    for module in ("pipeline.run.accelerator", "pipeline.run.doctor"):
        monkeypatch.setattr(f"{module}.present", lambda: RTX)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = {finding.what: finding for finding in doctor._machine(allow_cpu=allow)}
    assert found["NVIDIA GPU"].found == "NVIDIA GeForce RTX 4090, driver 550.54.14"
    assert found["training"].state == state and "R580" in found["training"].found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert {f.what: f for f in doctor._machine(allow_cpu=allow)}["training"].found == "on the GPU"
