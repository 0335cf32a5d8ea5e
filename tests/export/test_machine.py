"""Protects: machine facts are there, JSON-ready, and never an error."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from export import machine
from export.runtime import load, readings


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
    """Others' time is what the machine was busy with, less what this process and its ended children used."""
    ticks = 100
    monkeypatch.setattr("os.sysconf", lambda _name: ticks)
    texts = iter(["cpu  100 0 100 9 9 0 0 50 0 0\ncpu0 1", "cpu  500 0 300 9 9 0 0 150 0 0"])
    monkeypatch.setattr(load, "open", lambda *_, **__: io.StringIO(next(texts)), raising=False)
    monkeypatch.setattr(
        "os.times", lambda: SimpleNamespace(children_user=next(children), children_system=0.5)
    )
    own, clock, children = iter([1.0, 2.5]), iter([10.0, 14.0]), iter([1.0, 1.5])
    monkeypatch.setattr("time.process_time", lambda: next(own))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    before, after = load.load_now(), load.load_now()
    found = load.load_between(before, after)
    assert found == {"seconds": 4.0, "own_cores": 0.5, "other_cores": 1.0, "steal_cores": 0.25}
    assert load.load_between(None, after) == {}


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n", "36.4.3"),
        ("# R39 (release), REVISION: 2.0, GCID: 1", "39.2.0"),
        ("# something new\n", "something new"),
        ("", ""),
    ],
)
def test_l4t_release(tmp_path: Path, text: str, release: str) -> None:
    """An engine's key on a Jetson; an unknown form must still tell two releases apart."""
    assert readings.l4t_release(str(tmp_path)) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(text)
    assert readings.l4t_release(str(tmp_path)) == release


def test_loads_of_several_rounds_are_averaged_over_time() -> None:
    """A short round counts for little; what is not known is left out."""
    long = {"seconds": 9.0, "own_cores": 1.0, "other_cores": 0.0, "steal_cores": 0.0}
    short = {"seconds": 1.0, "own_cores": 1.0, "other_cores": 2.0, "steal_cores": 0.5}
    found = load.load_together([long, {}, short])
    assert found == {"seconds": 10.0, "own_cores": 1.0, "other_cores": 0.2, "steal_cores": 0.05}
    assert load.load_together([{}]) == {}
    assert load.foreign_cores(short) == 2.0 and load.foreign_cores({}) == 0.0
    assert load.is_disturbed(short, 0.15) and not load.is_disturbed(long, 0.15)
