"""The networks that come with the package, by name: `figkd.model_names.BUILT_IN` says what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from figkd.networks import mobile, resnet, tiny, vgg

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Network:
    """How to build a network, and the normalisation that it is trained with.

    Attributes:
        build: takes the number of classes; the network takes normalised images [B, 3, H, W] and returns logits
            [B, C].
        mean: of each channel, of pixels in 0..1.
        std: the same.
    """

    build: Callable[[int], nn.Module]
    mean: RGB = (0.5071, 0.4867, 0.4408)  # CIFAR-100's training images
    std: RGB = (0.2675, 0.2565, 0.2761)


_tiny = partial(Network, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
_WIDE = (32, 64, 128, 256)

NETWORKS: dict[str, Network] = {
    "figkd/resnet_tiny": _tiny(tiny.TinyResNet),
    "figkd/dsconv_nano": _tiny(tiny.TinyDepthwise),
    "figkd/resnet20": Network(partial(resnet.resnet, depth=20)),
    "figkd/resnet32": Network(partial(resnet.resnet, depth=32)),
    "figkd/resnet56": Network(partial(resnet.resnet, depth=56)),
    "figkd/resnet110": Network(partial(resnet.resnet, depth=110)),
    "figkd/resnet8x4": Network(partial(resnet.resnet, depth=8, widths=_WIDE)),
    "figkd/resnet32x4": Network(partial(resnet.resnet, depth=32, widths=_WIDE)),
    "figkd/resnet50_cifar": Network(resnet.resnet50),
    "figkd/wrn_16_2": Network(partial(resnet.wide_resnet, depth=16, factor=2)),
    "figkd/wrn_40_1": Network(partial(resnet.wide_resnet, depth=40, factor=1)),
    "figkd/wrn_40_2": Network(partial(resnet.wide_resnet, depth=40, factor=2)),
    "figkd/vgg8": Network(partial(vgg.vgg, repeats=1)),
    "figkd/vgg13": Network(partial(vgg.vgg, repeats=2)),
    "figkd/mobilenetv2_half": Network(partial(mobile.mobilenetv2, factor=0.5)),
    "figkd/shufflenetv1": Network(mobile.shufflenetv1),
    "figkd/shufflenetv2": Network(mobile.shufflenetv2),
}
"""Every built-in network by name."""
