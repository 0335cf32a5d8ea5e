"""Two networks for 32 px images that train on a CPU within minutes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from figkd.networks.blocks import conv_norm


class TinyResNet(nn.Module):
    """A residual network for 32 px images that trains on a CPU within minutes (about 0.3 M parameters).

    Strided early (half the resolution after the first convolution) and wide late, where pixels are few.
    """

    def __init__(
        self, num_classes: int, widths: Sequence[int] = (16, 32, 96), blocks: Sequence[int] = (1, 2, 2)
    ):
        super().__init__()
        self.stem = conv_norm(3, widths[0], stride=2)
        layers: list[nn.Module] = []
        width = widths[0]
        for stage, (out, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                layers.append(_Residual(width, out, stride=2 if stage > 0 and block == 0 else 1))
                width = out
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of normalised images [B, 3, H, W]."""
        x = self.blocks(F.relu(self.stem(x)))
        return cast(Tensor, self.head(x.mean((2, 3))))


class TinyDepthwise(nn.Module):
    """A depthwise-separable network for 32 px images (about 5 k parameters at 21 classes)."""

    def __init__(self, num_classes: int, widths: Sequence[int] = (16, 24, 32, 48)):
        super().__init__()
        self.stem = conv_norm(3, widths[0], stride=2)
        layers: list[nn.Module] = []
        for index, (width, out) in enumerate(itertools.pairwise(widths)):
            layers += [
                conv_norm(width, width, stride=1 if index == 0 else 2, groups=width),
                conv_norm(width, out, kernel=1),
                nn.ReLU(),
            ]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of normalised images [B, 3, H, W]."""
        x = self.blocks(F.relu(self.stem(x)))
        return cast(Tensor, self.head(x.mean((2, 3))))


class _Residual(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(width, out, stride=stride)
        self.second = conv_norm(out, out)
        same = stride == 1 and width == out
        self.shortcut = nn.Identity() if same else conv_norm(width, out, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))
