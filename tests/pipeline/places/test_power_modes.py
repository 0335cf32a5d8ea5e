"""Protects: several power modes: each is measured, the one before is put back whatever happens, and rows say which.

`nvpmodel` is a stand-in that changes the status file of a made-up tree. No board was asked.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.runtime.bundle.preprocess import Preprocessing
from pipeline.config.modes import contradictions, judged_mode, measured_modes, refused
from pipeline.config.targets import Target
from pipeline.devices.agent import power_mode, serve, work
from pipeline.devices.faults import JobFailed
from pipeline.places import device_time
from pipeline.places.latency import Case
from pipeline.places.pictures import Pictures
from pipeline.places.place import Context
from tests.pipeline.devices.boards import ORIN_NANO, write
from tests.pipeline.devices.test_readings import _Nvpmodel


def target(**keys: Any) -> Target:
    return Target.model_validate({"engine": "tensorrt", "device": "ssh://orin", **keys})


@pytest.mark.parametrize(
    ("keys", "judged", "measured"),
    [
        ({}, None, []),
        ({"power_mode": "15W"}, "15W", ["15W"]),
        ({"power_modes": ["15W", "25W"]}, "15W", ["15W", "25W"]),
        ({"power_modes": ["15W", "25W"], "power_mode": "25W"}, "25W", ["25W", "15W"]),
    ],
)
def test_which_mode_is_judged(keys: dict[str, Any], judged: str | None, measured: list[str]) -> None:
    """The one that is named, else the first; it is built and measured in first."""
    assert judged_mode(target(**keys)) == judged and measured_modes(target(**keys)) == measured


def test_two_spellings_are_one_mode() -> None:
    (problem,) = contradictions("targets.orin", target(power_modes=["15W", "MODE_15W"]))
    assert problem.reason == "names a mode twice"
    both = target(power_modes=["30W", "15W"], power_mode="MODE_15W")
    assert not list(contradictions("targets.orin", both)) and measured_modes(both) == ["MODE_15W", "30W"]


def test_modes_that_a_device_lacks_are_told_from_its_facts() -> None:
    nano = {"power_mode": {"name": "25W", "id": 1, "available": ["15W", "25W", "MAXN_SUPER"]}}
    assert refused(["15w", "MAXN_SUPER"], nano) == ("", "") == refused([], {})
    assert refused(["15W", "30W"], nano) == (
        "the device has no power mode '30W'",
        "it has 15W, 25W, MAXN_SUPER",
    )
    agx = {"power_mode": {"name": "MAXN", "id": 0, "available": ["MAXN", "MODE_15W", "MODE_30W"]}}
    assert refused(["15W", "MODE_30W"], agx) == ("", "") and "'50W'" in refused(["50W"], agx)[0]
    assert refused(["15W"], {})[0] == "the device has no power modes"
    assert refused(["15W"], {"power_mode": {"name": "MAXN", "id": 0, "available": []}}) == ("", "")


def test_each_mode_is_set_and_the_one_before_put_back(tmp_path: Path) -> None:
    """As the jobs of two modes do, one after the other; the second fails."""
    root = write(tmp_path / "root", ORIN_NANO)
    program = _Nvpmodel(root)
    for mode, broken in (("15W", False), ("MAXN_SUPER", True)):
        try:
            with power_mode.held(mode, str(tmp_path), root=root, run=program) as now:
                assert now["name"] == mode
                if broken:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert power_mode.current(root)["name"] == "25W"
    assert [call[-1] for call in program.calls] == ["0", "1", "2", "1"]


def test_a_killed_jobs_mode_is_put_back_by_who_is_left(tmp_path: Path) -> None:
    root = write(tmp_path / "root", ORIN_NANO)
    state = tmp_path / "cache/power_mode.json"
    state.parent.mkdir()
    program = _Nvpmodel(root)
    assert power_mode.put_back(str(tmp_path), root=root, run=program) and program.calls == []
    state.write_text(json.dumps({"id": 2}))
    refusing = _Nvpmodel(root, "sudo: a password is required")
    assert not power_mode.put_back(str(tmp_path), root=root, run=refusing)
    assert state.exists(), "remembered for the next session"
    assert power_mode.put_back(str(tmp_path), root=root, run=program)
    assert power_mode.current(root)["name"] == "MAXN_SUPER" and not state.exists()


def test_the_agent_puts_back_at_the_sessions_end_unless_a_job_runs_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A detached job that outlives the connection does so itself; without the lock another host may be at work."""
    asked: list[str] = []
    monkeypatch.setattr(power_mode, "put_back", asked.append)

    def leave(fd: int, running: bool) -> list[str]:
        asked.clear()
        jobs = SimpleNamespace(names=lambda: ["time-0"], running=lambda job: running)
        lock = SimpleNamespace(fd=fd, release=lambda: None)
        agent = serve._Agent.__new__(serve._Agent)
        agent.__dict__ |= {"_folder": "work", "_jobs": jobs, "_lock": lock, "_mine": set()}
        agent.leave()
        return list(asked)

    assert leave(3, running=False) == ["work"]
    assert leave(3, running=True) == [] == leave(-1, running=False)


def test_the_watcher_of_a_job_that_was_killed_puts_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out takes the child: no `finally` of its own runs."""
    place = tmp_path / "jobs/time-0"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    asked: list[str] = []
    monkeypatch.setattr(power_mode, "put_back", asked.append)
    monkeypatch.setattr(work, "_handle", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    work.work(str(tmp_path), "time-0")
    assert asked == [str(tmp_path)] and not json.loads((place / "outcome.json").read_text())["ok"]


class Device:
    """What `places.device_time` sees of a device that measures in every mode but those that need a reboot."""

    def __init__(self, reboot: tuple[str, ...] = ()) -> None:
        self.reboot, self.asked = reboot, list[str]()

    def job(self, context: Any, session: Any, job: Any, request: dict[str, Any], what: str) -> Any:
        mode = request["power_mode"]
        self.asked.append(what)
        if mode in self.reboot:
            raise JobFailed(
                f"power mode {mode} needs a reboot of the device", fix="answer YES", kind="request"
            )
        case = {"wall_seconds": 1.0, "queries": 2, "rounds": [2], "notes": []}
        result = {
            "cases": {"o/int8|1|engine": case}, "index": {"o/int8|1|engine": {"latency": (0, 2)}}, "sustained": {},
            "energy": {}, "facts": {"o/int8": {}}, "golden": None, "missing": [], "power_mode": {"name": mode},
            "readings": [{"at": 0.0, "when": "before", "gpu": {"mhz": 306, "min_mhz": 306, "max_mhz": 918}}],
        }  # fmt: skip
        return SimpleNamespace(job="time-0", result=result)

    def fetch(self, job: str, name: str, path: Path, most: int) -> Path:
        path.write_bytes(np.array([1.0, 3.0], "<f8").tobytes())
        return path

    def release(self, job: str) -> None:
        pass


NO_PICTURES = Pictures([], Preprocessing(8, 8), "stored")
REQUEST = {
    "encoded": [],
    "engines": [{"id": "o/int8"}], "image": [8, 8, 3],
    "cases": [{"name": "o/int8|1|engine", "engine": "o/int8", "batch": 1, "boundary": "engine"}],
}  # fmt: skip


def measure(
    device: Device, modes: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Any], list[str], list[str]]:
    notes: list[str] = []
    monkeypatch.setattr(device_time, "run_job", device.job)
    context = Context(tmp_path, note=notes.append)
    session: Any = device
    request: Any = REQUEST
    timed, lacking = device_time.in_each_mode(context, session, request, modes, NO_PICTURES, "o")
    return timed, lacking, notes


def test_there_is_a_row_for_each_engine_and_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged first; samples under names that are their rows' own."""
    device = Device()
    timed, lacking, _ = measure(device, ["15W", "25W"], tmp_path, monkeypatch)
    assert device.asked == ["o in 15W", "o in 25W"] and lacking == []
    rows = [row for each in timed for row in each.rows]
    assert [row.power_mode for row in rows] == ["15W", "25W"]
    for each in timed:
        assert set(each.samples) == {row.samples for row in each.rows}
    assert timed[1].summary["clocks"]["gpu"]["locked"] is False
    assert Case("e", 1, "engine", power_mode="25W").name == "e|1|engine|25W"


def test_one_mode_is_as_it_always_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed, _, _ = measure(Device(), ["15W"], tmp_path, monkeypatch)
    assert timed[0].rows[0].power_mode == "" and set(timed[0].samples) == {"o/int8|1|engine"}


def test_a_mode_that_needs_a_reboot_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the one that budgets are judged at must be had, and other failures are failures."""
    device = Device(reboot=("MAXN_SUPER",))
    timed, lacking, notes = measure(device, ["15W", "MAXN_SUPER", "25W"], tmp_path, monkeypatch)
    assert [each.mode for each in timed] == ["15W", "25W"]
    assert (
        lacking == notes == ["in MAXN_SUPER: power mode MAXN_SUPER needs a reboot of the device; answer YES"]
    )
    with pytest.raises(JobFailed, match="needs a reboot"):
        measure(device, ["MAXN_SUPER", "15W"], tmp_path, monkeypatch)
