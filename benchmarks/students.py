"""ONNX files of students with random weights, which are as fast as trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.onnx import export_onnx, fix_batch
from export.precision import to_int8_onnxruntime
from figkd.models import build_model, reparameterize_for_export

CALIBRATION = 48


@dataclass(frozen=True)
class Student:
    model: str
    image_size: int
    classes: int


STUDENTS = {
    "dsconv_nano": Student("figkd/dsconv_nano", 32, 21),
    "resnet8x4": Student("figkd/resnet8x4", 32, 100),
    "mobilenetv3_small": Student("timm/mobilenetv3_small_100", 224, 1000),
    "mobilenetv4_conv_small": Student("timm/mobilenetv4_conv_small", 224, 1000),
    "efficientnet_lite0": Student("timm/efficientnet_lite0", 224, 1000),
    "resnet18": Student("torchvision/resnet18", 224, 1000),
}


def images(size: int, count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Smooth coloured noise, uint8 [count, size, size, 3]."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(0, 255, (count, 3, 8, 8)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def make_fp32(name: str, folder: Path, batch: int | None = 1) -> Path:
    """The student as FP32 ONNX of a fixed batch (None: any batch); made once a folder."""
    student = STUDENTS[name]
    path = folder / f"{name}{'' if batch == 1 else f'-b{batch or 0}'}.onnx"
    if not path.is_file():
        torch.manual_seed(0)
        module = reparameterize_for_export(
            build_model(student.model, student.classes, image_size=student.image_size)
        ).eval()
        example = torch.from_numpy(images(student.image_size, 1))
        export_onnx(module, example, path, dynamic_batch=True)
        if batch is not None:
            fix_batch(path, path, batch)
    return path


def make_int8(name: str, folder: Path) -> Path:
    """The student as INT8 in ONNX Runtime's layout, batch 1; made once a folder."""
    path = folder / f"{name}-int8.onnx"
    if not path.is_file():
        calibration = images(STUDENTS[name].image_size, CALIBRATION)
        to_int8_onnxruntime(
            make_fp32(name, folder), path, [calibration[i : i + 1] for i in range(CALIBRATION)]
        )
    return path
