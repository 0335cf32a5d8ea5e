"""`scout` as a user runs it: on this machine and on a device over a real sshd, killed in between.

Protects what hours of scouting are worth: a killed one goes on where it was, and the views hold every candidate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import FONTS, environment, figkd, quick_command
from tests.pipeline.devices.conftest import sshd  # noqa: F401
from tests.pipeline.devices.sshd import Sshd
from tests.warm import kill

NETS = """
from torch import nn

def _net(num_classes, width):
    return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(width, num_classes))

def w4(num_classes):
    return _net(num_classes, 4)

def w8(num_classes):
    return _net(num_classes, 8)
"""


def _config(folder: Path, targets: str) -> Path:
    (folder / "nets.py").write_text(NETS)
    path = folder / "tiny.yaml"
    path.write_text(
        f"""extends: {FONTS}
name: tiny
data: {{options: {{train_per_class: 4, val_per_class: 4, test_per_class: 4}}}}
precision: {{modes: [fp32]}}
targets:
  rtx: null
{targets}
budgets: {{top1: null, latency_p99_ms: null, latency_p50_ms: {{max: 50}}, engine_mb: {{max: 0.1}}}}
scout:
  models: ["nets:w{{width}}"]
  widths: ["4", "8"]
  min_samples: 20
  min_seconds: 0
  warmup_ms: 1
  rounds: 2
"""
    )
    return path


@pytest.mark.slow
def test_killed_and_gone_on_with_here_and_over_ssh(tmp_path: Path, sshd: Sshd) -> None:  # noqa: F811
    """Two candidates on two targets; SIGKILL after the first measurement; nothing is measured twice."""
    edge = f"""  edge:
    engine: onnxruntime
    device: {sshd.url}
    remote: {{folder: {sshd.folder}, ssh_config: {sshd.config}, python: {sys.executable}}}"""
    config = _config(tmp_path, edge)
    artifacts = tmp_path / ".figkd" / "artifacts"
    first = subprocess.Popen(
        quick_command("scout", config),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 400
    while not list(artifacts.glob("scout@*/*")) and first.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    kill(first)
    before = {path: (path / "rows.json").read_bytes() for path in artifacts.glob("scout@*/*")}
    assert before

    done = figkd("scout", config, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert [(row["candidate"]["model"], row["target"], row["precision"], row["state"]) for row in rows] == [
        (f"nets:w{width}", target, precision, "timed")
        for width in (4, 8)
        for target in ("cpu", "edge")
        for precision in ("fp32",)
    ]
    assert all(row["n"] >= 20 and row["p50_ms"] > 0 and row["calibration"] in ("", "data") for row in rows)
    assert all(row["memory_bytes"] > 100_000 for row in rows if row["memory_bytes"] is not None)
    assert done.json["measured"] == 4 - len(before)
    assert all((path / "rows.json").read_bytes() == content for path, content in before.items())
    assert not list((tmp_path / ".figkd" / "drafts").iterdir())

    again = figkd("scout", config, cwd=tmp_path)
    assert again.code == 0 and "started" not in again.err.replace("data             started", "")
    assert "2 of 2 candidates fit the budgets on every target." in again.out
    assert json.loads((tmp_path / "runs" / "tiny" / "scout.json").read_text())["measured"] == 0
    page = (tmp_path / "runs" / "tiny" / "scout.html").read_text()
    assert page.count("<svg") == 4 and all(f"nets:w{width}@32" in page for width in (4, 8))

    sshd.stop()
    one = ("--set", "scout.image_sizes=[40]", "--set", "scout.models=['nets:w4']", "--set", "scout.widths=[]")
    off = figkd("scout", config, *one, "--json", cwd=tmp_path)
    assert off.code == 5
    reasons = {row["target"]: row["reason"] for row in off.json["rows"]}
    assert reasons["cpu"] == "" and "unreachable" in reasons["edge"]


def test_bad_input(tmp_path: Path) -> None:
    """Exit code 2, one message, the fix; nothing that is not ours is replaced."""
    config = _config(tmp_path, "")
    unknown = figkd(
        "scout", config, "--set", "scout.models=[figkd/dsconv_nan]", "--set", "scout.widths=[]", cwd=tmp_path
    )
    assert unknown.code == 2 and "did you mean 'figkd/dsconv_nano'" in unknown.err
    many = figkd("scout", config, "--set", "scout.models=['timm/*']", "--set", "scout.widths=[]",
                 "--set", f"scout.image_sizes={list(range(8, 20))}", cwd=tmp_path)  # fmt: skip
    assert many.code == 2 and "at most 10,000" in many.err
    place = tmp_path / "runs" / "tiny"
    place.mkdir(parents=True)
    (place / "scout.json").write_text('{"mine": 1}')
    taken = figkd("scout", config, cwd=tmp_path)
    assert taken.code == 2 and "something else" in taken.err
    assert (place / "scout.json").read_text() == '{"mine": 1}'
