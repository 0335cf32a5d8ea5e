"""Every shipped config runs to its end: shrunk by --set, on a small tree in the published layout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import trees
from tests.pipeline.conftest import ROOT, Done, figkd, sets
from tests.pipeline.devices.sshd import PROGRAM, running_sshd

SMALL: dict[str, Any] = {
    "data.image_size": 64,
    "teacher.pretrained": "false",
    "teacher.model": "figkd/resnet_tiny",
    "teacher.epochs": 1,
    "teacher.allow_chance_level": True,
    "teacher.warmup_epochs": 0,
    "student.pretrained": "false",
    "distill.epochs": 1,
    "distill.warmup_epochs": 0,
    "distill.views.count": 1,
    "precision.calibration_images": 32,
    "export.parity.min_top1_agreement": 0,  # an untrained network's two best logits may tie
    "benchmark.min_samples": 5,
    "benchmark.min_seconds": 0,
    "benchmark.warmup_ms": 1,
    "benchmark.rounds": 1,
    "budgets": "{}",
}


def test_none_is_forgotten() -> None:
    """Each file in deploy_configs has a test here (fonts_cpu: test_end_to_end.py)."""
    tested = {"fonts_cpu", "jetson_dogs", "desktop_rtx_dogs", "image_folder"}
    assert {p.stem for p in (ROOT / "deploy_configs").glob("*.yaml")} == tested


def _ran(done: Done) -> bool:
    """A network of one epoch may guess, which is exit code 3: here it matters that all of the config works."""
    return done.code == 0 or (done.code == 3 and "no better than guessing" in done.err)


def _dogs(name: str, folder: Path, **changes: Any) -> Any:
    """Stanford Dogs' layout with a few made-up images; the result."""
    keys = SMALL | {"data.root": trees.stanford_dogs(folder / "dogs")} | changes
    done = figkd("run", "--json", ROOT / f"deploy_configs/{name}.yaml", *sets(keys), cwd=folder)
    assert _ran(done), done.err
    counts = done.json["data"]["counts"]
    assert counts["test"] == 24 and counts["train"] + counts["val"] == 60 and counts["val"]
    return done.json


def test_desktop_rtx_dogs(tmp_path: Path) -> None:
    """Built; run where there is a GPU. Its networks are those of `jetson_dogs`."""
    changes = {"targets.desktop.compute_capabilities": "[SM86]", "student.model": "figkd/dsconv_nano"}
    result = _dogs("desktop_rtx_dogs", tmp_path, **changes)
    assert {e["state"] for e in result["engines"]} <= {"ran", "built"} and len(result["engines"]) == 5


def test_jetson_dogs(tmp_path: Path) -> None:
    """Over a real sshd; the Jetson's engine is replaced by ONNX Runtime, since there is no `tensorrt` here."""
    if PROGRAM is None:
        pytest.skip("sshd is not installed (apt install openssh-server)")
    (tmp_path / "sshd").mkdir()
    with running_sshd(tmp_path / "sshd") as server:
        remote = f"{{folder: {server.folder}, ssh_config: {server.config}, python: {sys.executable}}}"
        result = _dogs(
            "jetson_dogs",
            tmp_path,
            **{
                "targets.orin.device": server.url, "targets.orin.engine": "onnxruntime", "targets.orin.remote": remote,
                "benchmark.sustained_s": 1,
            },
        )  # fmt: skip
    assert {e["state"] for e in result["engines"]} == {"ran"} and len(result["engines"]) == 2
    assert set(result["devices"]["orin"]["sustained"]) == {"orin/fp16", "orin/int8"}


def test_image_folder(tmp_path: Path) -> None:
    """A user's own folder; `init` writes a config for it that loads."""
    root = trees.image_folder(tmp_path / "my photos")
    started = figkd("init", root, "-o", "mine.yaml", cwd=tmp_path)
    assert started.code == 0 and "next: figkd-pipeline run mine.yaml" in started.out
    assert figkd("config", "check", "mine.yaml", cwd=tmp_path).code == 0
    assert figkd("init", root, "-o", "mine.yaml", cwd=tmp_path).code == 2, "an existing file is kept"
    changes = {"data.root": root, "targets.desktop": "null"}
    done = figkd(
        "run", "--json", ROOT / "deploy_configs/image_folder.yaml", *sets(SMALL | changes), cwd=tmp_path
    )
    assert _ran(done), done.err
    assert done.json["data"]["class_names"] == ["class_0", "class_1", "class_2"]


def test_shipped_configs_say_what_is_missing_before_they_train(tmp_path: Path) -> None:
    """No data, no Jetson: told at once, with the expected tree and the way out, exit 5 for the device."""
    done = figkd("run", ROOT / "deploy_configs/jetson_dogs.yaml", cwd=tmp_path)
    assert done.code == 5
    assert "targets.orin.device" in done.err and "there is no host of that name" in done.err
    assert "n02085620-Chihuahua" in done.err, "the expected tree"
    assert not (tmp_path / ".figkd" / "artifacts").exists()
