"""Protects: which INT8 files are fine-tuned, on whose word, and what takes their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.onnx import export_onnx
from export.torch_graph import TorchGraph
from figkd import checkpoint
from figkd.models import build_model
from pipeline.config.load import load_config
from pipeline.places.images import Images
from pipeline.report.precision_words import fine_tuning
from pipeline.results.precision import FineTuning
from pipeline.results.rows.scores import read_scores, write_scores
from pipeline.stages import qad
from pipeline.stages.base import Work
from pipeline.stages.engines import onnx_accuracy, onnx_path
from tests.pipeline.conftest import FONTS
from tests.pipeline.rows import score


def arguments(**changes: Any) -> dict[str, Any]:
    """The stage's arguments for the demonstration's config with keys changed, on a CPU with VNNI."""
    config = load_config(FONTS, [f"{key}={value}" for key, value in changes.items()])
    layouts = {"cpu": "u8s8", "rtx": "tensorrt"}
    if "int8" not in (config.targets["rtx"].precisions or config.precision.modes):
        del layouts["rtx"]
    return qad._layout_arguments(config, "", layouts)


def test_auto_needs_a_budget_on_the_drop() -> None:
    """Without `max_drop` nobody said that INT8 loses too much; with it, it is the limit of each layout."""
    assert arguments(**{"budgets.top1": "{min: 60}"}) == {"files": {}}
    assert arguments(**{"budgets.top1": "null"}) == {"files": {}}
    given = arguments(**{"budgets.top1": "{max_drop: 1.5}"})
    assert given["files"] == {"int8.onnx": 1.5, "int8_cpu_u8s8.onnx": 1.5}
    assert given["method"] == "figkd" and given["epochs"] == 3


def test_a_budget_of_others_does_not_count() -> None:
    """A goal for one target or precision concerns the INT8 files that it reads, and no other."""
    only_cpu = arguments(**{"budgets.top1": "{max_drop: 1, target: [cpu]}"})
    assert only_cpu["files"] == {"int8_cpu_u8s8.onnx": 1.0}
    assert arguments(**{"budgets.top1": "{max_drop: 1, precision: [fp16]}"}) == {"files": {}}
    no_int8 = arguments(**{"budgets.top1": "{max_drop: 1}", "targets.rtx.precisions": "[fp16]"})
    assert no_int8["files"] == {"int8_cpu_u8s8.onnx": 1.0}


def test_int8_has_a_limit_of_its_own() -> None:
    """What INT8 may lose is the same number that mixed precision keeps to."""
    given = arguments(**{"budgets.top1": "{max_drop: 2}", "precision.int8_max_drop": 0.5})
    assert given["files"] == {"int8.onnx": 0.5, "int8_cpu_u8s8.onnx": 0.5}


def test_always_and_never() -> None:
    """`always` needs no budget; `never` heeds none."""
    always = arguments(**{"precision.qad.when": "always", "budgets.top1": "null"})
    assert always["files"] == {"int8.onnx": None, "int8_cpu_u8s8.onnx": None}
    assert arguments(**{"precision.qad.when": "never", "budgets.top1": "{max_drop: 1}"}) == {"files": {}}


def test_the_drop_decides() -> None:
    """More than allowed, not as much as allowed; a gain is no drop."""
    assert (
        qad.too_far(70.0, 68.9, 1.0) and not qad.too_far(70.0, 69.0, 1.0) and not qad.too_far(70.0, 71.0, 0.0)
    )
    assert qad.too_far(70.0, 71.0, None)


def test_keys_of_the_fine_tuning_leave_the_quantisation_alone() -> None:
    """Another learning rate must not calibrate again."""
    from pipeline.stages import precision

    configs = [load_config(FONTS, [f"precision.qad.lr={lr}"]) for lr in (0.001, 0.002)]
    first, second = (precision.STAGE.arguments(config, "") for config in configs)
    assert first == second


def test_a_fine_tuned_file_takes_the_place_of_the_other(tmp_path: Path) -> None:
    """Engines are built from it, and its accuracy is what is reported."""
    inputs = {name: tmp_path / name for name in ("precision", "qad")}
    for folder in inputs.values():
        folder.mkdir()
    write_scores(inputs["precision"], {"int8.onnx": score(1), "fp32.onnx": score(2)})
    write_scores(inputs["qad"], {"int8.onnx": score(3)})
    (inputs["precision"] / "fp32.onnx").touch()
    (inputs["qad"] / "int8.onnx").touch()
    assert onnx_path(inputs, "int8.onnx") == inputs["qad"] / "int8.onnx"
    assert onnx_path(inputs, "fp32.onnx") == inputs["precision"] / "fp32.onnx"
    assert onnx_accuracy(inputs) == {"int8.onnx": score(3), "fp32.onnx": score(2)}
    assert read_scores(inputs["precision"])["int8.onnx"] == score(1)


@pytest.mark.parametrize("layout", ["uint8_nhwc", "float32_nchw"])
def test_training_sees_what_the_device_sees(layout: str, tmp_path: Path) -> None:
    """A graph of normalised floats gets the student's normalisation around it, once."""
    torch.manual_seed(0)
    student = build_model("figkd/dsconv_nano", 4, image_size=32).eval()
    checkpoint.save(tmp_path / "model.pt", student.state_dict())
    stored = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    example = Images(stored[:1], 32, layout, tmp_path / "model.pt").inputs()
    exported = student if layout == "uint8_nhwc" else student.backbone
    export_onnx(exported, torch.from_numpy(example), tmp_path / "x.onnx", dynamic_batch=True)
    work = Work({"input": layout}, {"distill": tmp_path}, {}, tmp_path, tmp_path, lambda d, t, n: None)
    module = qad._taking_images(TorchGraph(onnx.load(tmp_path / "x.onnx")), work)
    with torch.no_grad():
        expected = student(torch.from_numpy(stored))
        torch.testing.assert_close(module(torch.from_numpy(stored)), expected, rtol=1e-4, atol=1e-4)


def test_a_fine_tuning_that_diverged_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An INT8 file that is there must not be lost, nor the run ended, because it could not be made better."""
    from figkd.errors import TrainingError

    def diverge(work: Work, file: Path) -> None:
        raise TrainingError("the loss is nan in epoch 1", "lower the learning rate")

    monkeypatch.setattr(qad, "fine_tune", diverge)
    monkeypatch.setattr(qad, "_top1", lambda work, file: 50.0)
    for folder in ("precision", "distill", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "precision" / "int8.onnx").write_bytes(b"x")
    (tmp_path / "distill" / "metrics.json").write_text(json.dumps({"val": {"n": 4, "top1": 90.0}}))
    work = Work(
        {"files": {"int8.onnx": 1.0, "int8_cpu_u8s8.onnx": 1.0}},  # the second was not made
        {name: tmp_path / name for name in ("precision", "distill")},
        {}, tmp_path / "out", tmp_path, lambda d, t, n: None,
    )  # fmt: skip
    qad.STAGE.run(work)
    facts = json.loads((tmp_path / "out" / "qad.json").read_text())
    assert list(facts) == ["int8.onnx"] and facts["int8.onnx"]["state"] == "diverged"
    assert "not fine-tuned: the loss is nan" in qad.STAGE.summary(tmp_path / "out")
    assert "the file as it was made" in fine_tuning(FineTuning(onnx="int8.onnx", **facts["int8.onnx"]))
    assert onnx_path({"qad": tmp_path / "out", "precision": tmp_path / "precision"}, "int8.onnx").is_file()
