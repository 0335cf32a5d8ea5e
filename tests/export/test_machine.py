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
