"""Calibration images: from the training split, class-balanced, seeded, by the evaluation view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from figkd import checkpoint
from figkd.data.store import SplitWriter
from figkd.models import build_model
from pipeline.stages.base import Work
from pipeline.stages.inputs import graph_inputs
from pipeline.stages.precision import calibration_batches, onnx_file


def _work(folder: Path, seed: int = 0) -> Work:
    arguments = {"seed": seed, "image_size": 4, "input": "uint8_nhwc"}
    return Work(arguments, {"data": folder}, {}, folder, folder, lambda done, total, note: None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 images of class 0, 6 of class 1, 3 of class 2; a pixel's value is the image's number."""
    with SplitWriter(tmp_path, "train", 6) as writer:
        for number, label in enumerate([0] * 40 + [1] * 6 + [2] * 3):
            writer.append(np.full((6, 6, 3), number, np.uint8), label, str(number))
    return tmp_path


def _numbers(batches: list[np.ndarray]) -> list[int]:
    return [int(batch[0, 0, 0, 0]) for batch in batches]


def test_calibration_is_balanced_and_seeded(data: Path) -> None:
    """As many of each class as there are, then more of the others; another seed draws others."""
    chosen = _numbers(calibration_batches(_work(data), 15))
    labels = np.digitize(chosen, [40, 46])
    assert np.bincount(labels).tolist() == [6, 6, 3]
    assert len(set(chosen)) == 15
    assert chosen == _numbers(calibration_batches(_work(data), 15))
    assert chosen != _numbers(calibration_batches(_work(data, seed=1), 15))


def test_calibration_uses_the_evaluation_view(data: Path) -> None:
    """One image a batch, cropped as at test time."""
    assert {batch.shape for batch in calibration_batches(_work(data), 5)} == {(1, 4, 4, 3)}


def test_more_than_there_are_gives_all(data: Path) -> None:
    """No image twice."""
    assert len(set(_numbers(calibration_batches(_work(data), 1000)))) == 49


def test_each_back_end_reads_its_own_int8_layout() -> None:
    """TensorRT and ONNX Runtime's CPU want opposite layouts."""
    assert onnx_file("onnxruntime", "int8") == "int8_cpu.onnx"
    assert onnx_file("tensorrt_rtx", "int8") == onnx_file("tensorrt", "int8") == "int8.onnx"
    assert onnx_file("onnxruntime", "fp16") == "fp16.onnx"


def test_float_inputs_are_what_the_student_normalises_inside(tmp_path: Path) -> None:
    """The float layout fed to the backbone gives the logits that the uint8 classifier gives."""
    model = build_model("figkd/dsconv_nano", 4, image_size=32).eval()
    checkpoint.save(tmp_path / "model.pt", model.state_dict())
    stored = np.random.default_rng(0).integers(0, 256, (3, 36, 36, 3), dtype=np.uint8)
    inside = graph_inputs(stored, image_size=32, layout="uint8_nhwc", student=None)
    outside = graph_inputs(stored, image_size=32, layout="float32_nchw", student=tmp_path / "model.pt")
    with torch.no_grad():
        expected = model(torch.from_numpy(np.ascontiguousarray(inside)))
        got = model.backbone(torch.from_numpy(outside))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
