"""Protects: entropy calibration of trained depthwise networks whose images have a constant background.

A constant background gives each channel of each layer a value that most of its histogram lies on. The published search
follows these point masses and clips what carries the classes. By how much depends on the weights, and they on the CPU;
so the tests compare means over five seeds.
"""

from __future__ import annotations

import io
import statistics
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import precision
from export.engines.onnxruntime import CPU, OnnxRuntimeEngine
from export.precision import histograms

SIDE, CLASSES = 12, 6
SEEDS = range(5)


def images(count: int, seed: int) -> tuple[Any, Any]:
    """White squares with a dark bar whose angle is the class: N,H,W,C uint8 and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    made = np.full((count, SIDE, SIDE, 3), 255, np.uint8)
    for image, label in zip(made, labels, strict=True):
        angle = np.pi * label / CLASSES + random.normal(0, 0.1)
        dx, dy = random.uniform(-1, 1, 2)
        along, across = (x - dx) * np.cos(angle) + (y - dy) * np.sin(angle), (y - dy) * np.cos(angle)
        across = across - (x - dx) * np.sin(angle)
        image[(abs(along) < random.uniform(3, 5)) & (abs(across) < 1)] = random.integers(0, 120, 3)
    return made, labels


class Depthwise(nn.Module):
    """uint8 N,H,W,C in, as the pipeline's graphs take it; three depthwise-separable convolutions."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for stride in (1, 2, 1):
            layers += [
                nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            layers += [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(pixels.permute(0, 3, 1, 2).float() / 255)
        return logits


def trained(seed: int) -> Any:
    torch.manual_seed(seed)
    net, (pixels, labels) = Depthwise(), images(600, 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    batches = torch.randperm(len(labels)).split(50)
    steps = len(batches) * 6
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, steps)
    for index in range(steps):
        batch = batches[index % len(batches)]
        loss = nn.functional.cross_entropy(
            net(torch.from_numpy(pixels[batch])), torch.from_numpy(labels[batch])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@dataclass(frozen=True)
class Subject:
    """A trained network as ONNX, images that nobody trained on, and what its tensors hold on calibration images."""

    model: onnx.ModelProto
    pixels: Any
    labels: Any
    seen: precision.Observed

    def top1(self, model: onnx.ModelProto) -> float:
        """Percent of the test images, computed exactly."""
        engine = OnnxRuntimeEngine(model.SerializeToString(), None, CPU, int8_kernels=False)
        return float((engine.infer(self.pixels).argmax(1) == self.labels).mean() * 100)

    def int8(self) -> float:
        """Top-1 after entropy calibration."""
        ranges = precision.ranges(self.seen, method="entropy")
        return self.top1(precision.quantise_for_tensorrt(self.model, ranges))


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [_subject(seed) for seed in SEEDS]


def _subject(seed: int) -> Subject:
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            trained(seed),
            (torch.from_numpy(images(2, 3)[0]),),
            written,
            dynamo=False,
            opset_version=20,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "n"}, "logits": {0: "n"}},
        )
    model = onnx.load_from_string(written.getvalue())
    return Subject(model, *images(1000, 1), precision.observe(model, [images(200, 2)[0]]))


def lost(subjects: list[Subject]) -> float:
    """Mean over the networks of what INT8 loses of the top-1, in points."""
    return statistics.mean(subject.top1(subject.model) - subject.int8() for subject in subjects)


def test_entropy_costs_little(subjects: list[Subject]) -> None:
    assert statistics.mean(subject.top1(subject.model) for subject in subjects) > 85
    assert lost(subjects) < 1.5


def test_the_published_search_costs_much(subjects: list[Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above can fail: without levelling, the same networks lose several times as much."""
    monkeypatch.setattr(histograms, "without_point_masses", lambda counts: counts)
    assert lost(subjects) > 4
