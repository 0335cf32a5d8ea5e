"""The moving average of weights and statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from figkd.ema import Average


def test_the_decay_warms_up() -> None:
    """Protects the rule min(decay, (1 + t) / (10 + t)): worked out by hand for one weight."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = Average(model, 0.15)
    nn.init.constant_(model.weight, 1.0)
    average.update(0)  # decay 1/10
    average.update(1)  # decay 0.15, below 2/11
    assert average.module.weight.item() == pytest.approx(0.15 * 0.9 + 0.85)
    assert not average.module.weight.requires_grad


def test_statistics_are_averaged_with_the_weights() -> None:
    """Protects batch norm: running statistics belong to the weights beside them; counters are copied."""
    model = nn.BatchNorm1d(2)
    average = Average(model, 0.1)
    model(torch.tensor([[10.0, 0.0], [10.0, 4.0]]))
    average.update(0)
    assert average.module.running_mean.tolist() == pytest.approx([0.9 * 1.0, 0.9 * 0.2])
    assert int(average.module.num_batches_tracked) == 1
