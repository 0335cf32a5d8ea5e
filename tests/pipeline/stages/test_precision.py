"""Calibration images: from the training split, class-balanced, seeded, by the evaluation view."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from figkd import checkpoint
from figkd.data.store import SplitWriter
from figkd.models import build_model
from pipeline.places.images import Images
from pipeline.stages.base import Work
from pipeline.stages.precision import calibration_batches, make_files, onnx_file


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
    """TensorRT and ONNX Runtime's CPU want opposite layouts, and CPUs differ."""
    assert onnx_file("int8", "u8s8") == "int8_cpu_u8s8.onnx"
    assert onnx_file("int8") == onnx_file("int8", "tensorrt") == "int8.onnx"
    assert onnx_file("fp16", "u8s8") == "fp16.onnx"


def test_float_inputs_are_what_the_student_normalises_inside(tmp_path: Path) -> None:
    """The float layout fed to the backbone gives the logits that the uint8 classifier gives."""
    model = build_model("figkd/dsconv_nano", 4, image_size=32).eval()
    checkpoint.save(tmp_path / "model.pt", model.state_dict())
    stored = np.random.default_rng(0).integers(0, 256, (3, 36, 36, 3), dtype=np.uint8)
    inside = Images(stored, 32, "uint8_nhwc", None).inputs()
    outside = Images(stored, 32, "float32_nchw", tmp_path / "model.pt").inputs()
    with torch.no_grad():
        expected = model(torch.from_numpy(np.ascontiguousarray(inside)))
        got = model.backbone(torch.from_numpy(outside))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of two classes as an FP32 ONNX file."""
    from export.onnx import export_onnx

    torch.manual_seed(0)
    model = build_model("figkd/dsconv_nano", 2, image_size=32)
    path = tmp_path_factory.mktemp("student") / "student.onnx"
    export_onnx(model, torch.zeros(1, 32, 32, 3, dtype=torch.uint8), path, dynamic_batch=True)
    return path


@pytest.mark.parametrize(
    ("images", "constant", "made", "says"),
    [
        (31, False, ["bf16.onnx", "fp16.onnx"], "at least 32 training images to calibrate, there are 31"),
        (40, True, ["bf16.onnx"], "calibration images have no content"),
        (32, False, ["bf16.onnx", "fp16.onnx", "int8.onnx", "int8_cpu_s8s8.onnx", "int8_cpu_u8s8.onnx"], ""),
    ],
)
def test_one_precision_that_cannot_be_made_leaves_the_others(
    student: Path, tmp_path: Path, images: int, constant: bool, made: list[str], says: str
) -> None:
    """Protects a run's hours: the reason is kept, nothing half-made is left, and what can be made is."""
    random = np.random.default_rng(0)
    with SplitWriter(tmp_path, "train", 32) as writer:
        for number in range(images):
            pixels = 7 if constant else random.integers(0, 256, (32, 32, 3))
            writer.append(np.broadcast_to(pixels, (32, 32, 3)).astype(np.uint8), number % 2, str(number))
    arguments = {
        "modes": ["bf16", "fp16", "fp32", "int8"], "image_size": 32, "input": "uint8_nhwc", "seed": 0,
        "layouts": ["s8s8", "tensorrt", "u8s8"],
        "half": {"keep_fp32": [], "force_fp16": [], "calibration_images": 64},
        "int8": {
            "calibration_method": "minmax", "percentile": 99.99, "weights": "per_channel", "exclude": [],
            "without_rules": [], "validation_images": 8, "max_drop": None,
        },
    }  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    work = Work(arguments, {"data": tmp_path}, {}, out, out, lambda done, total, note: None)
    facts, lacking = make_files(work, student, partial(calibration_batches, work))
    assert sorted(facts) == sorted(path.name for path in out.iterdir()) == made
    assert sorted([*facts, *lacking]) == [
        "bf16.onnx",
        "fp16.onnx",
        "int8.onnx",
        "int8_cpu_s8s8.onnx",
        "int8_cpu_u8s8.onnx",
    ]
    assert all(says in error.what for error in lacking.values())
