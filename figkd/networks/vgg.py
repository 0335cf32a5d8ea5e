"""VGG for 32 px images (arXiv 1409.1556) with batch normalisation and a single linear layer.

As in the distillation literature: convolutions keep their bias, and the last stage is not halved, so that 32 px end
as 4 px.
"""

from __future__ import annotations

from torch import nn

from figkd.networks.blocks import Classifier, relu, small_head

_WIDTHS = (64, 128, 256, 512, 512)


def vgg(num_classes: int, repeats: int) -> Classifier:
    """VGG with `repeats` convolutions in each of five stages: 1 for VGG-8, 2 for VGG-13."""
    layers: list[nn.Module] = []
    width = 3
    for stage, out in enumerate(_WIDTHS):
        if 0 < stage < 4:
            layers.append(nn.MaxPool2d(2))
        for _ in range(repeats):
            conv = nn.Conv2d(width, out, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.BatchNorm2d(out), relu()]
            width = out
    return small_head(Classifier(nn.Sequential(*layers), width, num_classes))
