"""Protects: machine facts are there, JSON-ready, and never an error."""

from __future__ import annotations

import json

import pytest

from export import machine


def test_facts_are_json_and_complete() -> None:
    facts = machine.machine_facts()
    assert json.loads(json.dumps(facts)) == facts
    assert {"cpu", "gpus", "os", "kernel", "python", "packages"} <= set(facts)
    assert facts["cpu"]["model"] and facts["cpu"]["logical"] >= 1
    assert facts["packages"]["numpy"]


def test_nothing_readable_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: None)
    facts = machine.machine_facts()
    assert facts["cpu"]["architecture"] and "memory_gib" not in facts and "board" not in facts


def test_board_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1\nmore",
    }
    monkeypatch.setattr(machine, "_read", texts.get)
    assert machine.board_facts() == {
        "model": "NVIDIA Jetson Orin Nano",
        "l4t": "R36 (release), REVISION: 4.3, GCID: 1",
    }


def test_who_used_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' time is what the machine was busy with, less what this process used."""
    ticks = 100
    monkeypatch.setattr("os.sysconf", lambda _name: ticks)
    texts = iter(["cpu  100 0 100 9 9 0 0 50 0 0\ncpu0 1", "cpu  500 0 300 9 9 0 0 150 0 0"])
    monkeypatch.setattr(machine, "_read", lambda _path: next(texts))
    own, clock = iter([1.0, 3.0]), iter([10.0, 14.0])
    monkeypatch.setattr("time.process_time", lambda: next(own))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    before, after = machine.load_now(), machine.load_now()
    found = machine.load_between(before, after)
    assert found == {"seconds": 4.0, "own_cores": 0.5, "other_cores": 1.0, "steal_cores": 0.25}
    assert machine.load_between(None, after) == {}
