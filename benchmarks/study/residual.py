"""A residual student for the study's small tasks: `student.model: "residual:student"`, taught by `patches:teacher`."""

from __future__ import annotations

from patches import Patches
from torch import nn

from figkd.networks.tiny import TinyResNet


def student(num_classes: int) -> nn.Module:
    """A ResNet of one block a stage, 28 k parameters at 240 classes."""
    return Patches(TinyResNet(num_classes, (8, 16, 32), (1, 1, 1)))
