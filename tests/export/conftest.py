"""A small depthwise-separable net, trained for seconds on oriented gratings, and its ONNX files.

An untrained net would not do: its logits are so close together that quantisation noise decides the class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.onnx import export_onnx
from export.precision import to_fp16, to_int8_onnxruntime, to_int8_tensorrt
from tests.warm import remember_operators

CLASSES, SIDE = 8, 32


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return torch.relu(x + y if self.skip else y)


class TinyNet(nn.Module):
    """uint8 NHWC in, logits out, normalisation inside."""

    def __init__(self, classes: int = CLASSES, width: int = 12) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.48, 0.45, 0.40]))
        self.register_buffer("std", torch.tensor([0.22, 0.25, 0.23]))
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.Hardswish(),
            Block(width, width, 1),
            Block(width, 2 * width, 2),
            Block(2 * width, 2 * width, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, classes),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = (image.to(torch.float32) / 255 - self.mean) / self.std
        return self.backbone(x.permute(0, 3, 1, 2))


def gratings(count: int, seed: int) -> tuple[Any, Any]:
    """Noisy gratings, uint8 [N, 32, 32, 3]; the orientation is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    y, x = np.mgrid[:SIDE, :SIDE]
    angle = (labels * np.pi / CLASSES)[:, None, None] + rng.normal(0, 0.08, (count, 1, 1))
    wave = np.sin(
        rng.uniform(0.5, 0.9, (count, 1, 1)) * (x * np.cos(angle) + y * np.sin(angle))
        + rng.uniform(0, 6.28, (count, 1, 1))
    )
    tint = rng.uniform(0.3, 1, (count, 1, 1, 3))
    images = 128 + 60 * wave[..., None] * tint + rng.normal(0, 30, (count, SIDE, SIDE, 3))
    return np.clip(images, 0, 255).astype(np.uint8), labels


@dataclass
class Files:
    module: nn.Module
    images: Any
    """Test images [400, ...]."""
    labels: Any
    train: Any
    """Training images, for calibration [128, ...]."""
    fp32: Path
    fp16: Path
    int8: Path
    int8_cpu: Path


@pytest.fixture(scope="session", autouse=True)
def remembered_operators() -> None:
    remember_operators()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads lose more to waiting for each other in such small nets than they win, above all under load."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    torch.manual_seed(0)
    images, labels = gratings(1600, 0)
    module = TinyNet()
    epochs, batch = 4, 50
    steps = epochs * len(images) // batch
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch):
            loss = nn.functional.cross_entropy(
                module(torch.from_numpy(images[rows.numpy()])), torch.from_numpy(labels[rows.numpy()])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    module.eval()
    folder = tmp_path_factory.mktemp("files")
    test, test_labels = gratings(400, 1)
    made = Files(
        module,
        test,
        test_labels,
        images[:128],
        folder / "fp32.onnx",
        folder / "fp16.onnx",
        folder / "int8.onnx",
        folder / "int8_cpu.onnx",
    )
    export_onnx(module, torch.from_numpy(images[:1]), made.fp32, dynamic_batch=True)
    to_fp16(made.fp32, made.fp16)
    to_int8_tensorrt(made.fp32, made.int8, made.train)
    to_int8_onnxruntime(made.fp32, made.int8_cpu, made.train)
    return made
