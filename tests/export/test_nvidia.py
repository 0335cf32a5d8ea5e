"""Protects: a GPU that is here is seen even where its driver does not answer, and a driver that is too old is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.engines.tensorrt import _driver_fix
from export.nvidia import Gpu, driver_lacks, present
from export.runtime import cudart


@pytest.mark.parametrize(
    ("driver", "version", "needs"),
    [
        ("550.54.14", "13.0", "R580"),
        ("575.64.03", "13.4", "R580"),
        ("580.65.06", "13.0", ""),
        ("590.10", "13.4", ""),
        ("550.54.14", "12.8", ""),
        ("515.105.01", "12.4", "R525"),
        ("470.82", "11.8", ""),
        ("", "13.0", ""),
        ("550.54.14", "", ""),
        ("unknown", "13.0", ""),
        ("580.65.06", "99.0", ""),
    ],
)
def test_which_driver_a_version_of_cuda_needs(driver: str, version: str, needs: str) -> None:
    """Nothing is said of what is not known."""
    said = driver_lacks(driver, version)
    assert bool(said) == bool(needs) and needs in said
    assert not needs or (driver in said and f"CUDA {version}" in said)


def test_a_gpu_is_seen_by_its_driver_or_its_device_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an update of the driver without a restart NVML fails, and the device file is still there."""
    monkeypatch.setattr("export.nvidia.gpu_facts", list)
    assert present(tmp_path) is None
    (tmp_path / "nvidiactl").touch()
    assert present(tmp_path) is None, "the control file is there without a GPU too"
    (tmp_path / "nvidia0").touch()
    assert present(tmp_path) == Gpu("an NVIDIA GPU")
    listed = [{"name": "NVIDIA GeForce RTX 4090", "driver": "550.54.14"}, {"name": "another"}]
    monkeypatch.setattr("export.nvidia.gpu_facts", lambda: listed)
    assert present(tmp_path) == Gpu("NVIDIA GeForce RTX 4090", "550.54.14")


def test_engines_ask_for_the_driver_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run engines on a machine with an NVIDIA GPU` is no advice to who has one."""
    monkeypatch.setattr(cudart, "version", lambda: "13.4")
    monkeypatch.setattr("export.engines.tensorrt.present", lambda: None)
    assert _driver_fix() == "run engines on a machine with an NVIDIA GPU and its driver"
    monkeypatch.setattr("export.engines.tensorrt.present", lambda: Gpu("RTX 4090", "550.54.14"))
    assert _driver_fix().startswith("update it: the NVIDIA driver 550.54.14 is too old for CUDA 13.4")
    monkeypatch.setattr("export.engines.tensorrt.present", lambda: Gpu("RTX 4090", "590.1"))
    assert "nvidia-smi" in _driver_fix()


def test_the_version_of_cuda_needs_no_driver() -> None:
    """It is the library's own; a machine without it has none."""
    major, _, minor = cudart.version().partition(".")
    assert not major or (int(major) >= 11 and minor.isdigit())
