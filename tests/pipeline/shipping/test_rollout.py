"""Several devices: the first may have to commit before the others begin; each ends in one way."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipeline.cli.entry import execute
from pipeline.core.address import Device
from pipeline.core.errors import BundleFault, DeviceFault, Exit, TakenBack
from pipeline.shipping.rollout import Ended, exit_code, roll_out
from tests.pipeline.shipping.made import FAILS, bundle_at

DEVICES = [Device(f"ssh://cam{n}") for n in range(5)]


def test_all_devices_are_worked_on_in_their_order() -> None:
    told: list[Ended[str]] = []
    ended = roll_out(DEVICES, lambda device: device.name, tell=told.append)
    assert [one.result for one in ended] == [f"cam{n}" for n in range(5)]
    assert len(told) == 5 and exit_code(ended) == Exit.OK


def test_a_canary_that_fails_stops_the_others() -> None:
    begun: list[str] = []

    def work(device: Device) -> str:
        begun.append(device.name)
        raise TakenBack("too slow")

    ended = roll_out(DEVICES, work, canary=True)
    assert begun == ["cam0"]
    assert [one.is_good for one in ended] == [False] * 5 and ended[1].error is None
    assert exit_code(ended) == Exit.STAGE_FAILED


def test_one_that_fails_leaves_the_others_alone() -> None:
    def work(device: Device) -> str:
        if device.name == "cam2":
            raise DeviceFault("unreachable")
        return "ok"

    ended = roll_out(DEVICES, work, canary=True)
    assert [one.is_good for one in ended] == [True, True, False, True, True]
    assert exit_code(ended) == Exit.DEVICE


def test_the_exit_code_says_most_of_the_bundle() -> None:
    errors = [DeviceFault("off"), TakenBack("slow"), BundleFault("changed")]
    ended: list[Ended[str]] = [Ended(DEVICES[0], error=error) for error in errors]
    assert exit_code(ended) == Exit.BUNDLE_REFUSED == 6
    assert exit_code(ended[:2]) == Exit.STAGE_FAILED


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Devices by name, all of them processes of this machine."""

    def named(name: str, config: object) -> Device:
        return Device("local", folder=str(tmp_path / name / "work"), python=sys.executable, silence_s=5)

    monkeypatch.setattr("pipeline.devices.housekeeping.named_device", named)
    return ["--unsigned", "--root", str(tmp_path / "releases")]


def test_the_commands(local: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = bundle_at(tmp_path / "b1", 1), bundle_at(tmp_path / "b2", 2)
    assert execute(["ship", str(one), "cam1", *local]) == 0
    assert "committed" in capsys.readouterr().err
    assert execute(["ship", str(two), "cam1", "--canary", "--window", "0", "--json", *local]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(d["state"], d["is_new"]) for d in found["devices"]] == [("committed", True)]
    assert execute(["ship", "status", "cam1", *local]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]] == ["serves", "previous"]
    assert execute(["ship", "rollback", "cam1", *local]) == 0
    assert "sequence 1, serves" in capsys.readouterr().out
    assert execute(["ship", "rollback", "cam1", *local]) == 5
    assert "no earlier release" in capsys.readouterr().err


def test_refusals_of_the_command(
    local: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["ship", str(bundle_at(tmp_path / "b1", 1)), "cam1", *local[1:]]) == 2
    assert "whose signatures count is not known" in capsys.readouterr().err
    assert execute(["ship", str(bundle_at(tmp_path / "b3", 3, FAILS)), "cam1", *local]) == 1
    assert "image 3: label b instead of a" in capsys.readouterr().err
    (tmp_path / "b3/labels.json").write_bytes(b"[]")
    assert execute(["ship", str(tmp_path / "b3"), "cam1", *local]) == 6
    assert execute(["ship", str(tmp_path / "absent"), "cam1", *local]) == 2
