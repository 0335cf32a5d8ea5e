"""Every shipped config runs to its end: shrunk by --set, on a small tree in the published layout, locally."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import trees
from tests.pipeline.conftest import ROOT, figkd, sets

SMALL: dict[str, Any] = {
    "data.image_size": 64,
    "teacher.pretrained": "false",
    "teacher.model": "timm/resnet10t",
    "teacher.epochs": 1,
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


@pytest.mark.parametrize("name", ["jetson_dogs", "desktop_rtx_dogs"])
def test_dogs(name: str, tmp_path: Path) -> None:
    """Stanford Dogs' layout; the Jetson's target is replaced by a local one, since `tensorrt` may be absent."""
    changes: dict[str, Any] = {"data.root": trees.stanford_dogs(tmp_path / "dogs")}
    if name == "jetson_dogs":
        changes |= {"targets.orin.device": "local", "targets.orin.engine": "onnxruntime"}
    else:
        changes |= {"targets.desktop.compute_capabilities": "[SM86]"}
    done = figkd("run", "--json", ROOT / f"deploy_configs/{name}.yaml", *sets(SMALL | changes), cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["data"]["counts"] == {"train": 54, "val": 6, "test": 24}
    assert {e["state"] for e in done.json["engines"]} <= {"ran", "built"}
    expected = {"jetson_dogs": 2, "desktop_rtx_dogs": 5}[name]
    assert len(done.json["engines"]) == expected


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
    assert done.code == 0, done.err
    assert done.json["data"]["class_names"] == ["class_0", "class_1", "class_2"]


def test_shipped_configs_say_what_is_missing_before_they_train(tmp_path: Path) -> None:
    """No data, no Jetson: told at once, with the expected tree and the way out, exit 5 for the device."""
    done = figkd("run", ROOT / "deploy_configs/jetson_dogs.yaml", cwd=tmp_path)
    assert done.code == 5
    assert "targets.orin.device" in done.err and "--set targets.orin.device=local" in done.err
    assert "n02085620-Chihuahua" in done.err, "the expected tree"
    assert not (tmp_path / ".figkd" / "artifacts").exists()
