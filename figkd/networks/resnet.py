"""Residual networks for 32 px images: ResNet (arXiv 1512.03385) and Wide ResNet (arXiv 1605.07146).

As in the distillation literature (RepDistiller, mdistiller): shortcuts between different shapes are 1x1
convolutions, with batch normalisation in ResNets and without in Wide ResNets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from figkd.networks.blocks import Classifier, Residual, conv_norm, conv_norm_relu, relu


def resnet(num_classes: int, depth: int, widths: tuple[int, int, int, int] = (16, 16, 32, 64)) -> Classifier:
    """ResNet of `depth` = 6 n + 2 layers: a stem of widths[0], then three stages of n basic blocks."""
    stem = conv_norm_relu(3, widths[0])
    stages, width = _stages(_basic, widths[0], widths[1:], [(depth - 2) // 6] * 3)
    return Classifier(nn.Sequential(stem, *stages), width, num_classes)


def resnet50(num_classes: int) -> Classifier:
    """ResNet-50 with a 3x3 stem of stride 1 and no max pooling, so that 32 px end as 4 px."""
    stem = conv_norm_relu(3, 64)
    stages, width = _stages(_bottleneck, 64, (256, 512, 1024, 2048), (3, 4, 6, 3))
    return Classifier(nn.Sequential(stem, *stages), width, num_classes)


def wide_resnet(num_classes: int, depth: int, factor: int) -> Classifier:
    """Wide ResNet of `depth` = 6 n + 4 layers, `factor` times as wide as ResNet, normalised before each block."""
    stem = conv_norm(3, 16)[0]
    widths = [16 * factor, 32 * factor, 64 * factor]
    stages, width = _stages(_PreActivation, 16, widths, [(depth - 4) // 6] * 3)
    network = Classifier(nn.Sequential(stem, *stages, nn.BatchNorm2d(width), relu()), width, num_classes)
    nn.init.zeros_(network.head.bias)
    return network


def _stages(
    block: Callable[[int, int, int], nn.Module], width: int, outs: Sequence[int], counts: Sequence[int]
) -> tuple[list[nn.Module], int]:
    """Blocks in stages of one width; every stage but the first starts with stride 2. Also their last width."""
    blocks: list[nn.Module] = []
    for stage, (out, count) in enumerate(zip(outs, counts, strict=True)):
        for index in range(count):
            blocks.append(block(width, out, 2 if stage > 0 and index == 0 else 1))
            width = out
    return blocks, width


def _basic(width: int, out: int, stride: int) -> nn.Module:
    branch = nn.Sequential(conv_norm_relu(width, out, stride=stride), conv_norm(out, out))
    return Residual(branch, _shortcut(width, out, stride), relu())


def _bottleneck(width: int, out: int, stride: int) -> nn.Module:
    middle = out // 4
    branch = nn.Sequential(
        conv_norm_relu(width, middle, kernel=1),
        conv_norm_relu(middle, middle, stride=stride),
        conv_norm(middle, out, kernel=1),
    )
    return Residual(branch, _shortcut(width, out, stride), relu())


def _shortcut(width: int, out: int, stride: int) -> nn.Module | None:
    same = stride == 1 and width == out
    return None if same else conv_norm(width, out, kernel=1, stride=stride)


class _PreActivation(nn.Module):
    """A block of two 3x3 convolutions; a changing shape is projected from the normalised map, not the raw one."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(width), relu())
        self.branch = nn.Sequential(conv_norm_relu(width, out, stride=stride), conv_norm(out, out)[0])
        self.shortcut = None if width == out else conv_norm(width, out, kernel=1, stride=stride)[0]

    def forward(self, x: Tensor) -> Tensor:
        active = self.before(x)
        kept = x if self.shortcut is None else self.shortcut(active)
        return cast(Tensor, self.branch(active) + kept)
