"""Protects: the share of a layer in the work is counted by the usual formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from export import graph
from export.macs import multiply_adds
from export.onnx import export_onnx


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Linear(8, 5)
        self.product = nn.Parameter(torch.randn(5, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.depthwise(self.first(x)).mean(dim=(2, 3))) @ self.product


@pytest.mark.parametrize("dynamic", [True, False])
def test_known_counts(tmp_path: Path, dynamic: bool) -> None:
    """Per image, whether the batch is open or fixed."""
    export_onnx(Net().eval(), torch.randn(1, 3, 16, 16), tmp_path / "m.onnx", dynamic_batch=dynamic)
    model = graph.load_model(tmp_path / "m.onnx")
    graph.infer_shapes(model)
    if dynamic:
        other = graph.load_model(tmp_path / "m.onnx")
        graph.fix_batch(other, 4)
        assert multiply_adds(other) == multiply_adds(model)
    assert list(multiply_adds(model).values()) == [8 * 8 * 8 * 27, 8 * 8 * 8 * 9, 8 * 5, 5 * 4]
