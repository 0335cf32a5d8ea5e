"""Mobile networks for 32 px images, as in the distillation literature (RepDistiller, mdistiller).

MobileNetV2 (arXiv 1801.04381) has ReLU instead of ReLU6. The ShuffleNets (arXiv 1707.01083, 1807.11164) start with
a 1x1 convolution without stride, have no max pooling, and start from PyTorch's default weights.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figkd.networks.blocks import Classifier, Residual, conv_norm, conv_norm_relu, small_head

# Expansion, width at factor 1, blocks, stride of the first one (the paper's table 2, but for the strides).
_INVERTED = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


def mobilenetv2(num_classes: int, factor: float) -> Classifier:
    """MobileNetV2 of `factor` times the paper's widths; the last one stays 1280. 32 px end as 2 px."""
    width = int(32 * factor)
    layers: list[nn.Module] = [conv_norm_relu(3, width, stride=2)]
    for expansion, full, count, stride in _INVERTED:
        out = int(full * factor)
        for index in range(count):
            layers.append(_inverted(width, out, expansion, stride if index == 0 else 1))
            width = out
    layers.append(conv_norm_relu(width, 1280, kernel=1))
    return small_head(Classifier(nn.Sequential(*layers), 1280, num_classes))


def _inverted(width: int, out: int, expansion: int, stride: int) -> nn.Module:
    middle = width * expansion
    branch = nn.Sequential(
        conv_norm_relu(width, middle, kernel=1),
        conv_norm_relu(middle, middle, stride=stride, groups=middle),
        conv_norm(middle, out, kernel=1),
    )
    return Residual(branch) if stride == 1 and width == out else branch


_conv_norm = partial(conv_norm, he=False)
_conv_norm_relu = partial(conv_norm_relu, he=False)


def shufflenetv1(num_classes: int) -> Classifier:
    """ShuffleNet of 3 groups, widths 240, 480, 960 and 4, 8, 4 blocks. 32 px end as 4 px."""
    width, groups = 24, 3
    layers: list[nn.Module] = [_conv_norm_relu(3, width, kernel=1)]
    for out, count in ((240, 4), (480, 8), (960, 4)):
        # The first block's pooled input is put beside its branch instead of being added to it.
        layers.append(_GroupedBlock(width, out - width, groups, first=1 if width == 24 else groups, stride=2))
        layers += [_GroupedBlock(out, out, groups, first=groups, stride=1) for _ in range(count - 1)]
        width = out
    return Classifier(nn.Sequential(*layers), width, num_classes)


def shufflenetv2(num_classes: int) -> Classifier:
    """ShuffleNetV2 of size 1: widths 116, 232, 464, 1024 and 4, 8, 4 blocks. 32 px end as 4 px."""
    width = 24
    layers: list[nn.Module] = [_conv_norm_relu(3, width, kernel=1)]
    for out, count in ((116, 4), (232, 8), (464, 4)):
        layers.append(_DownBlock(width, out))
        layers += [_SplitBlock(out) for _ in range(count - 1)]
        width = out
    layers.append(_conv_norm_relu(width, 1024, kernel=1))
    return Classifier(nn.Sequential(*layers), 1024, num_classes)


def _shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups: [a1 a2 b1 b2] becomes [a1 b1 a2 b2]."""
    return F.channel_shuffle(x, groups)


class _GroupedBlock(nn.Module):
    """ShuffleNet's unit; `first` is the number of groups of its first convolution."""

    def __init__(self, width: int, out: int, groups: int, *, first: int, stride: int) -> None:
        super().__init__()
        self.groups, self.stride = first, stride
        middle = out // 4
        self.reduce = _conv_norm_relu(width, middle, kernel=1, groups=first)
        self.expand = nn.Sequential(
            _conv_norm_relu(middle, middle, stride=stride, groups=middle),
            _conv_norm(middle, out, kernel=1, groups=groups),
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.expand(_shuffle(self.reduce(x), self.groups))
        if self.stride == 1:
            return F.relu(branch + x)
        return F.relu(torch.cat([branch, F.avg_pool2d(x, 3, stride=2, padding=1)], 1))


def _pointwise_depthwise_pointwise(width: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _conv_norm_relu(width, out, kernel=1),
        _conv_norm(out, out, stride=stride, groups=out),
        _conv_norm_relu(out, out, kernel=1),
    )


class _SplitBlock(nn.Module):
    """ShuffleNetV2's unit: half of the channels pass through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = _pointwise_depthwise_pointwise(width // 2, width // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        return _shuffle(torch.cat([kept, self.branch(changed)], 1), 2)


class _DownBlock(nn.Module):
    """ShuffleNetV2's unit of stride 2: two branches, each half of the output."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            _conv_norm(width, width, stride=2, groups=width), _conv_norm_relu(width, out // 2, kernel=1)
        )
        self.right = _pointwise_depthwise_pointwise(width, out // 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return _shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)
