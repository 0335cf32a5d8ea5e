"""Energy per image: what the machine took above idle, divided by the images that were really run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from export.power import Counter, Unavailable
from pipeline.places import energy
from pipeline.places.energy import measure_energy, meter_for


class Machine:
    """10 W idle; each query takes 2 ms and costs 2 J more. Time passes only where it is slept or worked away."""

    def __init__(self) -> None:
        self.queries = 0
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def joules(self) -> float:
        return 10 * self.now + 2 * self.queries

    def query(self) -> None:
        self.queries += 1
        self.sleep(0.002)


def _engine(backend: str = "onnxruntime") -> Any:
    return SimpleNamespace(backend=backend, facts={"providers": ["CPUExecutionProvider"]})


def test_idle_is_measured_once_and_subtracted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images a query at 2 J: 1 J an image above idle, more with it."""
    monkeypatch.setattr(energy, "SETTLE_S", 0.01)
    machine = Machine()
    for module in ("pipeline.places.energy", "export.power"):
        monkeypatch.setattr(f"{module}.time", machine)
    meter = Counter("counter", "all", machine.joules)
    found, reason = measure_energy(
        {"a": _engine(), "b": _engine()}, {"a": machine.query, "b": machine.query}, batch=2, seconds=0.1,
        progress=lambda *_: None, find=lambda gpu: meter,
    )  # fmt: skip
    assert reason == "" and set(found) == {"a", "b"}
    for row in found.values():
        assert row.idle_w == pytest.approx(10)
        assert row.mj_per_image == pytest.approx(1000)
        assert row.mj_per_image_total > row.mj_per_image
        assert row.images in (100, 102)  # 2 ms a query, up to the rounding of the last


def test_a_machine_that_does_not_tell_says_why() -> None:
    """Once, though several engines are concerned."""

    def none(_gpu: bool) -> Any:
        raise Unavailable("no sensor")

    found, reason = measure_energy(
        {"a": _engine(), "b": _engine()}, {}, batch=1, seconds=0.1, progress=lambda *_: None, find=none
    )
    assert (found, reason) == ({}, "no sensor")


def test_a_board_s_sensor_comes_before_the_chip_s(tmp_path: Path) -> None:
    """On a Jetson the rail that carries the whole board, in volts times amperes."""
    sensor = tmp_path / "sys/class/hwmon/hwmon1"
    sensor.mkdir(parents=True)
    for name, value in {
        "name": "ina3221",
        "in1_label": "VDD_IN",
        "in1_input": "5000",
        "curr1_input": "1200",
    }.items():
        (sensor / name).write_text(value)
    meter = meter_for(True, str(tmp_path))
    assert (meter.source, meter.covers) == ("INA sensor VDD_IN", "the board")
    assert meter.watts() == 6.0  # type: ignore[union-attr]
    with pytest.raises(Unavailable, match="energy counters"):
        meter_for(False, str(tmp_path / "elsewhere"))
