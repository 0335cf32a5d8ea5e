"""From a config to a device: a run of the shrunk demonstration, `ship CONFIG`, what serves there, and a second ship."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.entry import execute
from pipeline.core.address import Device
from tests.pipeline.conftest import FONTS, TINY, figkd, sets

pytestmark = pytest.mark.slow


def test_ship_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = sets(
        {**TINY, "store": tmp_path / "store", "output": tmp_path / "runs", "budgets.top1": "{min: 1}"}
    )
    done = figkd("run", FONTS, *keys, cwd=tmp_path)
    assert done.code == 0, done.err
    device = Device("local", folder=str(tmp_path / "work"), python=sys.executable, silence_s=5)
    monkeypatch.setattr("pipeline.devices.housekeeping.named_device", lambda name, config: device)
    words = ["--unsigned", "--root", str(tmp_path / "releases"), "--json"]
    monkeypatch.delenv("PYTHONPATH", raising=False)

    assert execute(["ship", str(FONTS), "cam1", "--canary", *keys, *words]) == 0
    (first,) = json.loads(capsys.readouterr().out)["devices"]
    assert (first["state"], first["is_new"]) == ("committed", True)
    assert execute(["ship", str(FONTS), "cam1", *keys, *words]) == 0
    (second,) = json.loads(capsys.readouterr().out)["devices"]
    assert not second["is_new"] and second["bytes_sent"] <= 5_000

    bundle = tmp_path / "releases/current/bundle"
    reference = json.loads((bundle / "reference.json").read_text())
    assert sum(reference["classes"]) == sum(reference["confidence"]) == 21 * 4, "each validation image"
    command = [sys.executable, str(bundle / "run.pyz"), "self-test", "--canary", "--unsigned"]
    tested = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert tested.returncode == 0, tested.stderr
    assert "of 84 labelled images are right" in tested.stdout and "0 lost, 0 won" in tested.stdout
    picture = next((bundle / "golden/images").iterdir())
    command = [sys.executable, str(bundle / "run.pyz"), "classify", "--unsigned", str(picture)]
    assert subprocess.run(command, capture_output=True, cwd="/").returncode == 0
