"""What raw readings are made of: energy, throttling, sustained speed. Formulas with frozen values."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from pipeline.places import telemetry
from pipeline.places.latency import others_at_work
from pipeline.results.doubts import load_of


def test_energy_is_the_trapezoid_above_idle() -> None:
    """5 W idle; 9 W for 2 s of work that did 100 images: 40 mJ of work, 90 mJ in all."""
    idle = [[t / 10, {"VDD_IN": 5.0, "VDD_SOC": 1.0}] for t in range(30)]
    load = [[t / 10, {"VDD_IN": 9.0, "VDD_SOC": 3.0}] for t in range(21)]
    found = telemetry.energy_per_image({"images": 100, "seconds": 2.0, "idle": idle, "load": load})
    assert found is not None
    assert found.mj_per_image == pytest.approx(1000 * (9 - 5) * 2 / 100)
    assert found.mj_per_image_total == pytest.approx(180)
    assert (found.idle_w, found.load_w, found.n) == (pytest.approx(5), pytest.approx(9), 21)
    assert found.rails == ["VDD_IN"] and found.total_rail


def test_a_ramp_counts_by_its_area() -> None:
    """Readings at uneven times."""
    load = [[0.0, {"VIN": 4.0}], [1.0, {"VIN": 6.0}], [4.0, {"VIN": 6.0}]]
    idle = [[t, {"VIN": 4.0}] for t in range(3)]
    found = telemetry.energy_per_image({"images": 10, "seconds": 4.0, "idle": idle, "load": load})
    assert found is not None and found.mj_per_image == pytest.approx(1000 * (5 + 18 - 16) / 10)


def test_boards_without_a_total_rail_are_summed_and_said_so() -> None:
    """AGX Orin: the memory's rail is fed by the 5 V rail, and is not counted beside it."""
    watts = {"VDD_GPU_SOC": 2.0, "VDD_CPU_CV": 1.0, "VIN_SYS_5V0": 4.0, "VDDQ_VDD2_1V8AO": 1.5}
    assert telemetry.board_power(watts) == 7.0 and telemetry.board_power({}) is None
    pairs = [[t, watts] for t in range(4)]
    found = telemetry.energy_per_image({"images": 10, "seconds": 3.0, "idle": pairs, "load": pairs})
    assert (
        found is not None
        and not found.total_rail
        and found.rails == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
    )
    assert telemetry.energy_per_image({"images": 1, "seconds": 1, "idle": [], "load": pairs}) is None


def test_throttling_is_a_counter_that_grew_or_a_state_that_was_on() -> None:
    """What a device counted before the run does not count."""
    readings = [
        {
            "throttling": {
                "count oc3 events": 7,
                "count oc1 events": 2,
                "state cpu-throttle-alert": 0,
                "state x": 0,
            }
        },
        {
            "throttling": {
                "count oc3 events": 9,
                "count oc1 events": 2,
                "state cpu-throttle-alert": 1,
                "state x": 0,
            }
        },
        {
            "throttling": {
                "count oc3 events": 9,
                "count oc1 events": 2,
                "state cpu-throttle-alert": 0,
                "state x": 0,
            }
        },
    ]
    assert telemetry.throttled(readings) == ["oc3 events: 2 times", "cpu-throttle-alert: in 1 of 3 readings"]
    assert telemetry.throttled([{}]) == []


def test_temperatures_show_start_peak_and_end() -> None:
    """By zone."""
    readings = [{"temperatures": {"gpu": t}} for t in (40.0, 61.5, 55.0)]
    assert telemetry.temperatures(readings) == {"gpu": [40.0, 61.5, 55.0]}


def test_a_device_that_slows_down_is_seen() -> None:
    """2 ms at first, 3 ms at the end: 50 % slower."""
    latency = np.concatenate([np.full(500, 2.0), np.linspace(2, 3, 4000), np.full(500, 3.0)])
    arrays = {"latency": latency, "at": np.cumsum(latency) / 1000}
    found = telemetry.sustained(
        arrays, {"wall_seconds": 12.5, "queries": 50_000, "notes": ["one sample in 10 was kept"]}
    )
    assert found.slowdown_percent == pytest.approx(50) and found.p99 == 3.0
    assert (found.queries, found.n, len(found.series)) == (50_000, 5000, 60)
    assert found.resolution_ms == 0 and found.notes == ["one sample in 10 was kept"]


def test_the_steps_of_a_coarse_clock_are_kept() -> None:
    """120 s of trtexec; the views say where the steps are too wide."""
    words = {"wall_seconds": 120.0, "queries": 100, "notes": [], "resolution_ms": 0.0078125}
    for median in (0.2, 2.0):
        found = telemetry.sustained({"latency": np.full(100, median), "at": np.arange(100.0)}, words)
        assert (found.resolution_ms, found.median, found.notes) == (0.0078125, median, [])


@pytest.mark.parametrize(("others", "said"), [(0.05, False), (1.8, True)])
def test_who_else_was_at_work_on_the_device_is_known_and_said(others: float, said: bool) -> None:
    """By the same rule as for this machine; rows carry the caution, and the report's evidence says disturbed."""
    rounds = [{"seconds": 2.0, "own_cores": 1.0, "other_cores": others, "steal_cores": 0.0}] * 3
    during = telemetry.load(cast(Any, {"load": rounds, "repeated_rounds": 2}))
    assert during["other_cores"] == pytest.approx(others) and during["own_cores"] == pytest.approx(1)
    assert (during["seconds"], during["rounds"]) == (6, 3)
    load = load_of({"device": "d", "during": during})
    assert load is not None and load.disturbed is said and (load.rounds, load.repeated) == (3, 2)
    assert bool(others_at_work(during)) is said


def test_a_device_that_does_not_tell_its_cpu_time_is_not_called_quiet() -> None:
    """A device without `/proc/stat`, and one that was not asked."""
    for load in ({"load": []}, {}):
        during = telemetry.load(cast(Any, load))
        assert during == {} and load_of({"during": during}) is None and others_at_work(during) == []
