"""What the built-in networks are made of."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class Classifier(nn.Module):
    """A convolutional trunk, the mean over its pixels, and a linear layer.

    The mean stands where the literature pools the 32 px networks' last maps with a window of just their size, so
    the numbers are the same at 32 px and other image sizes work as well.
    """

    def __init__(self, trunk: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of normalised images [B, 3, H, W]."""
        return cast(Tensor, self.head(self.trunk(x).mean((2, 3))))


class Residual(nn.Module):
    """`after(branch(x) + shortcut(x))`; a plain sum by default."""

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """A map of the branch's shape from a map [B, width, H, W]."""
        return cast(Tensor, self.after(self.branch(x) + self.shortcut(x)))


def conv_norm(
    width: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1, he: bool = True
) -> nn.Sequential:
    """A convolution without bias that keeps the size (up to its stride), and batch normalisation.

    Its weights start as He et al. 2015 have it, over outgoing connections, N(0, 2 / (kernel^2 out)), or, with
    `he` false, as PyTorch has it.
    """
    conv = nn.Conv2d(width, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    if he:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out))


def conv_norm_relu(
    width: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1, he: bool = True
) -> nn.Sequential:
    """`conv_norm`, then a ReLU."""
    return conv_norm(width, out, kernel=kernel, stride=stride, groups=groups, he=he).append(relu())


def relu() -> nn.Module:
    """A ReLU that overwrites its input, which here always comes from a layer that does not need it again."""
    return nn.ReLU(inplace=True)


def small_head(classifier: Classifier) -> Classifier:
    """Start the linear layer as VGG's and MobileNetV2's published CIFAR code does: N(0, 0.01^2), no bias."""
    nn.init.normal_(classifier.head.weight, std=0.01)
    nn.init.zeros_(classifier.head.bias)
    return classifier
