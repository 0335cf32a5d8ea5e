"""The study's networks for one slow core: the built-in ones with a first convolution of 4 x 4 pixels and stride 4.

That is a quarter of the work. In a config: `teacher: {model: "patches:teacher"}`, and the same for `student`.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from figkd.networks.blocks import conv_norm
from figkd.networks.tiny import TinyDepthwise, TinyResNet


class Patches(nn.Module):
    """A network whose first convolution takes patches of 4 px."""

    def __init__(self, inner: TinyDepthwise | TinyResNet) -> None:
        super().__init__()
        width = inner.stem[0].out_channels
        inner.stem = conv_norm(3, width, kernel=4, stride=4)
        inner.stem[0].padding = (0, 0)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of normalised images [B, 3, H, W]."""
        return cast(Tensor, self.inner(x))


def teacher(num_classes: int) -> nn.Module:
    """About 0.6 M parameters at 240 classes."""
    return Patches(TinyResNet(num_classes, (48, 96, 160), (1, 1, 1)))


def student(num_classes: int) -> nn.Module:
    """About 16 k parameters at 240 classes."""
    return Patches(TinyDepthwise(num_classes))
