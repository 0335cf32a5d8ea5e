"""Networks that went through export, FP16, INT8 and engines in the table of docs/students.md.

Readable without torch. A test compares it with what was measured (benchmarks/results/matrix.json).
"""

from __future__ import annotations

from typing import NamedTuple


class Tried(NamedTuple):
    """What is known of a network.

    Attributes:
        image_size: side of the square input in pixels that it was tried at.
        parameters: in millions, at 100 classes.
    """

    image_size: int
    parameters: float


EXPORTED: dict[str, Tried] = {
    "timm/resnet18": Tried(224, 11.22),
    "timm/resnet34": Tried(224, 21.33),
    "timm/mobilenetv2_100": Tried(224, 2.33),
    "timm/mobilenetv3_small_100": Tried(224, 1.61),
    "timm/mobilenetv4_conv_small": Tried(224, 2.61),
    "timm/efficientnet_lite0": Tried(224, 3.48),
    "timm/efficientnet_b0": Tried(224, 4.11),
    "timm/repvgg_a0": Tried(224, 7.16),
    "timm/mobileone_s0": Tried(224, 1.16),
    "timm/ghostnet_100": Tried(224, 4.02),
    "torchvision/shufflenet_v2_x1_0": Tried(224, 1.35),
    "timm/regnetx_002": Tried(224, 2.34),
    "timm/regnety_002": Tried(224, 2.82),
    "timm/convnext_atto": Tried(224, 3.39),
    "timm/convnext_femto": Tried(224, 4.85),
    "timm/edgenext_xx_small": Tried(224, 1.16),
    "timm/fastvit_t8": Tried(224, 3.29),
    "timm/efficientvit_b0": Tried(224, 2.25),
    "timm/levit_128s": Tried(224, 7.06),
    "timm/mobilevit_xxs": Tried(256, 0.97),
    "timm/vit_tiny_patch16_224": Tried(224, 5.51),
    "timm/deit_tiny_distilled_patch16_224": Tried(224, 5.53),
    "timm/repvit_m0_9": Tried(224, 4.72),
    "figkd/resnet8x4": Tried(32, 1.23),
    "figkd/resnet20": Tried(32, 0.28),
    "figkd/wrn_16_2": Tried(32, 0.70),
    "figkd/wrn_40_1": Tried(32, 0.57),
    "figkd/vgg8": Tried(32, 3.96),
    "figkd/mobilenetv2_half": Tried(32, 0.80),
    "figkd/shufflenetv1": Tried(32, 0.94),
    "figkd/shufflenetv2": Tried(32, 1.35),
    "figkd/dsconv_nano": Tried(32, 0.01),
}
"""By name; each was exported to ONNX with agreeing outputs."""
