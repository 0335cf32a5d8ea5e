"""The networks that a user would pick as a student, with the image size that they are looked at."""

from __future__ import annotations

from typing import NamedTuple


class Student(NamedTuple):
    """A name for `figkd.models.build_model` and the side of its square input in pixels."""

    name: str
    image_size: int

    @property
    def short(self) -> str:
        """The name without its library, as it is said at the command line."""
        return self.name.partition("/")[2]


_LARGE = (
    "timm/resnet18", "timm/resnet34", "timm/mobilenetv2_100", "timm/mobilenetv3_small_100",
    "timm/mobilenetv4_conv_small", "timm/efficientnet_lite0", "timm/efficientnet_b0", "timm/repvgg_a0",
    "timm/mobileone_s0", "timm/ghostnet_100", "torchvision/shufflenet_v2_x1_0", "timm/regnetx_002",
    "timm/regnety_002", "timm/convnext_atto", "timm/convnext_femto", "timm/edgenext_xx_small", "timm/fastvit_t8",
    "timm/efficientvit_b0", "timm/levit_128s", "timm/mobilevit_xxs", "timm/vit_tiny_patch16_224",
    "timm/deit_tiny_distilled_patch16_224", "timm/repvit_m0_9",
)  # fmt: skip
_SMALL = (
    "figkd/resnet8x4", "figkd/resnet20", "figkd/wrn_16_2", "figkd/wrn_40_1", "figkd/vgg8", "figkd/mobilenetv2_half",
    "figkd/shufflenetv1", "figkd/shufflenetv2", "figkd/dsconv_nano",
)  # fmt: skip

STUDENTS: tuple[Student, ...] = (
    *(Student(name, 256 if "mobilevit" in name else 224) for name in _LARGE),
    *(Student(name, 32) for name in _SMALL),
)
"""In the order of the table."""
