"""Protects: energy is what the machine's counters say, on recorded trees of machines that are not this one."""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export import power
from export.power import Counter, Sampled, Unavailable, nvml, rapl, trapezoid

ZONES = {
    "intel-rapl:0": ("package-0", 1_000_000, 5_000_000),
    "intel-rapl:0/intel-rapl:0:0": ("core", 400_000, 5_000_000),
    "intel-rapl:0/intel-rapl:0:1": ("dram", 300_000, 5_000_000),
    "intel-rapl:1": ("package-1", 2_000_000, 5_000_000),
    "intel-rapl-mmio:0": ("package-0", 1_000_000, 5_000_000),
}


def _tree(root: Path, zones: dict[str, tuple[str, int, int]]) -> Path:
    for zone, (name, energy, limit) in zones.items():
        folder = root / "sys/class/powercap" / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text(name)
        (folder / "energy_uj").write_text(str(energy))
        (folder / "max_energy_range_uj").write_text(str(limit))
    return root


def _set(root: Path, zone: str, energy: int) -> None:
    (root / "sys/class/powercap" / zone / "energy_uj").write_text(str(energy))


def test_rapl_adds_packages_and_memory_and_nothing_twice(tmp_path: Path) -> None:
    """Cores are part of their package; the memory-mapped interface shows the same package again."""
    root = _tree(tmp_path, ZONES)
    meter = rapl(str(root))
    assert meter.source == "RAPL package-0 + package-1 + dram"

    def work() -> None:
        _set(root, "intel-rapl:0", 3_500_000)
        _set(root, "intel-rapl:0/intel-rapl:0:0", 4_000_000)
        _set(root, "intel-rapl:0/intel-rapl:0:1", 800_000)
        _set(root, "intel-rapl:1", 2_250_000)

    assert meter.measure(work).joules == pytest.approx(2.5 + 0.5 + 0.25)


def test_a_counter_that_starts_again_is_carried_on(tmp_path: Path) -> None:
    """It wraps after an hour or so of load."""
    root = _tree(tmp_path, {"intel-rapl:0": ("package-0", 4_900_000, 5_000_000)})
    assert rapl(str(root)).measure(lambda: _set(root, "intel-rapl:0", 100_000)).joules == pytest.approx(0.2)


def test_the_platform_covers_its_packages(tmp_path: Path) -> None:
    """Where `psys` is, it is taken alone."""
    root = _tree(tmp_path, {**ZONES, "intel-rapl:2": ("psys", 0, 9_000_000)})
    meter = rapl(str(root))
    assert (meter.source, meter.covers) == ("RAPL psys", "the whole platform")


def test_why_there_is_no_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine, and a kernel that lets only root read."""
    with pytest.raises(Unavailable, match="virtual machines"):
        rapl(str(tmp_path))
    root = _tree(tmp_path, ZONES)

    def refuse(path: Any, *_: Any, **__: Any) -> Any:
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied")
        return os.fdopen(os.open(path, os.O_RDONLY))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(
        Unavailable, match="/sys/class/powercap/intel-rapl:0/energy_uj may be read by root only"
    ):
        rapl(str(root))


def test_trapezoid() -> None:
    """Unequal steps of a ramp: exact. Two readings say nothing."""
    found = trapezoid([(0.0, 1.0), (1.0, 3.0), (3.0, 7.0)])
    assert (found.joules, found.seconds, found.readings) == (2.0 + 10.0, 3.0, 3)
    assert found.watts == 4.0
    with pytest.raises(Unavailable, match="only 2 times"):
        trapezoid([(0.0, 1.0), (1.0, 1.0)])


def test_power_is_sampled_while_the_work_runs() -> None:
    """A constant power gives power times time; a sensor that dies is told."""
    ticks = iter(range(10**6))
    enough = threading.Event()

    def sensor() -> float:
        if next(ticks) == 4:
            enough.set()
        return 5.0

    def work() -> None:
        assert enough.wait(60)

    found = Sampled("x", "y", sensor, interval_s=0.005).measure(work)
    assert found.watts == pytest.approx(5.0) and found.readings == next(ticks) >= 5
    assert found.seconds >= 4 * 0.005

    def broken() -> float:
        raise OSError("gone")

    with pytest.raises(Unavailable, match="could not be read any more: gone"):
        Sampled("x", "y", broken).measure(lambda: None)


def _gpu(**functions: Any) -> Any:
    return SimpleNamespace(
        nvmlInit=lambda: None, nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda _: b"RTX", **functions,
    )  # fmt: skip


def test_nvml_counter_and_power() -> None:
    """The counter in mJ where there is one, else power in mW."""
    values = iter([0, 1000, 3500])

    def refuse(_handle: Any) -> int:
        raise RuntimeError("Not Supported")

    counter = nvml(_gpu(nvmlDeviceGetTotalEnergyConsumption=lambda _: next(values)))
    assert isinstance(counter, Counter) and counter.covers == "GPU 0: RTX"
    assert counter.measure(lambda: None).joules == 2.5
    sampled = nvml(_gpu(nvmlDeviceGetTotalEnergyConsumption=refuse, nvmlDeviceGetPowerUsage=lambda _: 70_000))
    assert isinstance(sampled, Sampled) and sampled.watts() == 70.0
    with pytest.raises(Unavailable, match="does not report its power: Not Supported"):
        nvml(_gpu(nvmlDeviceGetTotalEnergyConsumption=refuse, nvmlDeviceGetPowerUsage=refuse))


def test_the_module_parses_in_python_3_8() -> None:
    """It may be sent to a device."""
    ast.parse(Path(power.__file__).read_text(), feature_version=(3, 8))
