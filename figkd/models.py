"""Names to classifiers that take images as a camera gives them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figkd.errors import ModelError
from figkd.model_names import BUILT_IN, known_model, suggest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TINY_MEAN = (0.5, 0.5, 0.5)
TINY_STD = (0.25, 0.25, 0.25)


class ImageClassifier(nn.Module):
    """A backbone with its input normalisation inside.

    forward takes uint8 NHWC [B, H, W, 3] (RGB) and returns float32 logits [B, C]. The backbone gets
    (x / 255 - mean) / std as float NCHW [B, 3, H, W]; the permuted view of an NHWC tensor is channels-last
    in memory, so no copy is made. `channels_last` is False for backbones that cannot be trained in that layout.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ModelError(f"mean {tuple(mean)} and std {tuple(std)}", "three values each, std positive")
        self.backbone = backbone
        self.channels_last = not any(_crashes_onednn(module) for module in backbone.modules())
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [B, C] of uint8 images [B, H, W, 3]."""
        # One multiply and one add instead of divide, subtract, divide: the same values up to rounding.
        scale = 1.0 / (255.0 * self.std)
        shift = -self.mean / self.std
        pixels = images.to(torch.float32) * scale + shift
        pixels = pixels.permute(0, 3, 1, 2)
        if not self.channels_last:
            pixels = pixels.contiguous()
        return cast(Tensor, self.backbone(pixels)).to(torch.float32)


def build_model(name: str, num_classes: int, *, pretrained: bool = False, image_size: int) -> ImageClassifier:
    """Build a classifier by name, in train mode on the CPU, its random weights from torch's global generator.

    Args:
        name: "figkd/<x>" (see `figkd.model_names.BUILT_IN`), "timm/<x>" or "torchvision/<x>".
        num_classes: C, at least 2.
        pretrained: start from the published weights (timm and torchvision; may download them). Normalisation
            then comes from the weights' own configuration; otherwise it is ImageNet's (timm, torchvision) or
            0.5 / 0.25 (built in).
        image_size: side of the square input in pixels; the model is run once on one image to be sure.

    Raises:
        ModelError: unknown name, no such weights, weights that cannot be fetched, or a refused image size.
    """
    if num_classes < 2:
        raise ModelError(f"a classifier of {num_classes} classes", "at least 2 are needed")
    if not known_model(name):
        near = ", ".join(suggest(name))
        raise ModelError(f"unknown model {name!r}", f"did you mean: {near}?" if near else "")
    family, _, short = name.partition("/")
    if family == "figkd":
        if pretrained:
            raise ModelError(f"{name} has no pretrained weights", "set pretrained to false")
        backbone: nn.Module = _TINY[name](num_classes)
        mean, std = TINY_MEAN, TINY_STD
    elif family == "timm":
        backbone, mean, std = _timm_model(short, num_classes, pretrained)
    else:
        backbone, mean, std = _torchvision_model(short, num_classes, pretrained)
    model = ImageClassifier(backbone, mean, std)
    _check_forward(model, name, num_classes, image_size)
    return model


def _crashes_onednn(module: nn.Module) -> bool:
    # The backward pass of a strided 1x1 convolution of an image's 3 channels in channels-last layout ends the
    # process with a segmentation fault on the CPU (torch 2.14.1, oneDNN; RepVGG and MobileOne have one).
    return (
        isinstance(module, nn.Conv2d)
        and module.in_channels <= 4
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
    )


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, trainable or not; buffers (batch-norm statistics) are not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def reparameterize_for_export(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode with multi-branch training blocks folded into single convolutions.

    Applies to blocks that offer it (timm's RepVGG, MobileOne, FastViT, RepViT...); other models come back as
    an unchanged copy.
    """
    model = copy.deepcopy(model).eval()
    offers = ("reparameterize", "switch_to_deploy", "fuse")
    if any(hasattr(module, name) for module in model.modules() for name in offers):
        from timm.utils.model import reparameterize_model

        model = reparameterize_model(model)
    return model


class TinyResNet(nn.Module):
    """A residual network for 32 px images that trains on a CPU within minutes (about 0.3 M parameters).

    Strided early (half the resolution after the first convolution) and wide late, where pixels are few.
    """

    def __init__(
        self, num_classes: int, widths: Sequence[int] = (16, 32, 96), blocks: Sequence[int] = (1, 2, 2)
    ):
        super().__init__()
        self.stem = _conv_norm(3, widths[0], stride=2)
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
        self.stem = _conv_norm(3, widths[0], stride=2)
        layers: list[nn.Module] = []
        for index, (width, out) in enumerate(itertools.pairwise(widths)):
            layers += [
                _conv_norm(width, width, stride=1 if index == 0 else 2, groups=width),
                _conv_norm(width, out, kernel=1),
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
        self.first = _conv_norm(width, out, stride=stride)
        self.second = _conv_norm(out, out)
        same = stride == 1 and width == out
        self.shortcut = nn.Identity() if same else _conv_norm(width, out, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def _conv_norm(width: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(width, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out))


_TINY: dict[str, Callable[[int], nn.Module]] = {
    "figkd/resnet_tiny": TinyResNet,
    "figkd/dsconv_nano": TinyDepthwise,
}
assert set(_TINY) == set(BUILT_IN)


def _timm_model(name: str, num_classes: int, pretrained: bool) -> tuple[nn.Module, Any, Any]:
    import timm

    try:
        model = timm.create_model(name, pretrained=pretrained, num_classes=num_classes)
    except Exception as error:
        raise _not_built(f"timm/{name}", pretrained, error) from error
    if not pretrained:
        return model, IMAGENET_MEAN, IMAGENET_STD
    config = cast("dict[str, Any]", model.pretrained_cfg)
    return model, tuple(config["mean"]), tuple(config["std"])


def _torchvision_model(name: str, num_classes: int, pretrained: bool) -> tuple[nn.Module, Any, Any]:
    from torchvision.models import get_model, get_model_weights

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    try:
        if not pretrained:
            model = get_model(name, weights=None, num_classes=num_classes)
        else:
            weights = get_model_weights(name)["DEFAULT"]
            model = get_model(name, weights=weights)
            preset = weights.transforms()
            mean, std = tuple(preset.mean), tuple(preset.std)
            _replace_head(model, num_classes)
    except ModelError:
        raise
    except Exception as error:
        raise _not_built(f"torchvision/{name}", pretrained, error) from error
    if getattr(model, "aux_logits", False):
        raise ModelError(f"torchvision/{name} has auxiliary outputs", "choose a model with one output")
    return model, mean, std


def _replace_head(model: nn.Module, num_classes: int) -> None:
    for name, module in reversed(list(model.named_modules())):
        parent, _, attribute = name.rpartition(".")
        if isinstance(module, nn.Linear):
            head: nn.Module = nn.Linear(module.in_features, num_classes)
        elif isinstance(module, nn.Conv2d):
            head = nn.Conv2d(module.in_channels, num_classes, module.kernel_size)  # type: ignore[arg-type]
        else:
            continue
        setattr(model.get_submodule(parent), attribute, head)
        return
    raise ModelError("the model has no classification layer to replace")


def _not_built(name: str, pretrained: bool, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if pretrained:
        return ModelError(
            f"cannot get the pretrained weights of {name}: {reason}",
            "check the network, fill the weights' cache beforehand, or set pretrained to false",
        )
    return ModelError(f"cannot build {name}: {reason}")


def _check_forward(model: ImageClassifier, name: str, num_classes: int, image_size: int) -> None:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{name} does not take images of {image_size} x {image_size}: {reason}",
            "set image_size to what the model was made for, or choose another model",
        ) from error
    finally:
        model.train(training)
    if tuple(logits.shape) != (1, num_classes):
        raise ModelError(f"{name} gives outputs of shape {tuple(logits.shape)}, not (1, {num_classes})")
