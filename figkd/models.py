"""Names to classifiers that take images as a camera gives them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from figkd import own_network
from figkd.errors import ModelError
from figkd.hub import cached_if_unreachable
from figkd.model_names import known_model, suggest
from figkd.networks import NETWORKS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        logits = self.backbone(pixels)
        if not isinstance(logits, Tensor):
            raise ModelError(
                f"{type(self.backbone).__name__} returns several outputs while it is trained",
                "switch its auxiliary heads off, or choose a model with one output",
            )
        return logits.to(torch.float32)


def build_model(name: str, num_classes: int, *, pretrained: bool = False, image_size: int) -> ImageClassifier:
    """Build a classifier by name, in train mode on the CPU, its random weights from torch's global generator.

    Args:
        name: "figkd/<x>" (see `figkd.model_names.BUILT_IN`), "timm/<x>", "torchvision/<x>", or a function of the
            caller's own as "module:function" or "/path/file.py:function" (see `figkd.own_network`). A network has
            one output: auxiliary heads of training (Inception, GoogLeNet) are left out, and where a distillation
            token has a head of its own (DeiT, LeViT) the two are averaged, in training too.
        num_classes: C, at least 2.
        pretrained: start from the published weights (timm and torchvision; may download them). Normalisation
            then comes from the weights' own configuration; otherwise it is ImageNet's (timm, torchvision) or
            the built-in network's.
        image_size: side of the square input in pixels; the model is run once on one image to be sure. Networks
            whose weights depend on it (vision transformers) are built for it, and timm's pretrained ones
            interpolated to it.

    Raises:
        ModelError: unknown name, no such weights, weights that cannot be fetched, a refused image size, or a
            function that does not return such a network.
    """
    model = _built(name, num_classes, pretrained, image_size)
    _check_forward(model, name, num_classes, image_size)
    return model


def head_names(model: ImageClassifier, name: str, num_classes: int, *, image_size: int) -> list[str]:
    """Names in the state dict of the tensors whose rows are the classes (weights and biases of the head or heads).

    Found by building the network with one class more; torch's global generator is left as it was.

    Args:
        model: what `build_model` made of the other arguments.
        name: of the network.
        num_classes: C.
        image_size: side of the square input in pixels.
    """
    with torch.random.fork_rng(devices=[]):
        other = _built(name, num_classes + 1, False, image_size).state_dict()
    return [key for key, tensor in model.state_dict().items() if tensor.shape != other[key].shape]


@dataclass(frozen=True)
class Published:
    """What is known of a library's published weights.

    Attributes:
        classes: how many; None if unknown.
        mean: of the normalisation of their images, RGB, of values 0..1.
        std: the same.
    """

    classes: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


def published(name: str) -> Published | None:
    """Facts about the weights that `pretrained` would take, without fetching them; None where there are none."""
    family, _, short = name.partition("/")
    if family == "timm":
        import timm

        found = timm.get_pretrained_cfg(short)
        return None if found is None else Published(found.num_classes, tuple(found.mean), tuple(found.std))
    if family == "torchvision":
        from torchvision.models import get_model_weights

        weights = get_model_weights(short)["DEFAULT"]
        preset = weights.transforms()
        return Published(len(weights.meta["categories"]), tuple(preset.mean), tuple(preset.std))
    return None


def _built(name: str, num_classes: int, pretrained: bool, image_size: int) -> ImageClassifier:
    if num_classes < 2:
        raise ModelError(f"a classifier of {num_classes} classes", "at least 2 are needed")
    if ":" in name:
        if pretrained:
            raise ModelError(f"{name} has no published weights", "set pretrained to false")
        return ImageClassifier(own_network.build(name, num_classes, image_size))
    if not known_model(name):
        near = ", ".join(suggest(name))
        raise ModelError(f"unknown model {name!r}", f"did you mean: {near}?" if near else "")
    family, _, short = name.partition("/")
    if family == "figkd":
        if pretrained:
            raise ModelError(f"{name} has no pretrained weights", "set pretrained to false")
        network = NETWORKS[name]
        backbone, mean, std = network.build(num_classes), network.mean, network.std
    elif family == "timm":
        backbone, mean, std = _timm_model(short, num_classes, pretrained, image_size)
    else:
        backbone, mean, std = _torchvision_model(short, num_classes, pretrained, image_size)
    return ImageClassifier(backbone, mean, std)


def _crashes_onednn(module: nn.Module) -> bool:
    # The backward pass of a strided 1x1 convolution of an image's 3 channels in channels-last layout ends the
    # process with a segmentation fault on the CPU (torch 2.14.1, oneDNN; RepVGG and MobileOne have one).
    return (
        isinstance(module, nn.Conv2d)
        and module.in_channels <= 4
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
    )


def place(model: nn.Module, device: str) -> nn.Module:
    """Move a model to a device, in place and in channels-last layout unless it cannot be trained so."""
    if getattr(model, "channels_last", True):
        model.to(memory_format=torch.channels_last)
    return model.to(device)


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


def _timm_model(name: str, num_classes: int, pretrained: bool, size: int) -> tuple[nn.Module, Any, Any]:
    import timm

    usual = timm.get_pretrained_cfg(name)
    side = size if usual is None or not usual.fixed_input_size else usual.input_size[-1]
    # Only networks of one size know `img_size`.
    sized: dict[str, Any] = {} if side == size else {"img_size": size}
    unreachable = ""
    try:
        with cached_if_unreachable() if pretrained else contextlib.nullcontext("") as unreachable:
            model = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **sized)
    except Exception as error:
        if "img_size" in str(error):
            raise ModelError(
                f"timm/{name} does not take images of {size} x {size}, only of {side}",
                "set image_size to that, or choose another model",
            ) from error
        raise _not_built(f"timm/{name}", pretrained, error, unreachable) from error
    if not pretrained:
        return model, IMAGENET_MEAN, IMAGENET_STD
    config = cast("dict[str, Any]", model.pretrained_cfg)
    return model, tuple(config["mean"]), tuple(config["std"])


def _torchvision_model(
    name: str, num_classes: int, pretrained: bool, size: int
) -> tuple[nn.Module, Any, Any]:
    from torchvision.models import get_model, get_model_weights

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    try:
        if not pretrained:
            model = get_model(name, weights=None, num_classes=num_classes, **_torchvision_size(name, size))
            _drop_auxiliary_heads(model)
        else:
            weights = get_model_weights(name)["DEFAULT"]
            model = get_model(name, weights=weights)
            preset = weights.transforms()
            mean, std = tuple(preset.mean), tuple(preset.std)
            _drop_auxiliary_heads(model)
            if num_classes != len(weights.meta["categories"]):  # else the head is what was published, too
                _replace_head(model, num_classes)
    except ModelError:
        raise
    except Exception as error:
        raise _not_built(f"torchvision/{name}", pretrained, error) from error
    return model, mean, std


def _torchvision_size(name: str, size: int) -> dict[str, Any]:
    if name.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if name.startswith("maxvit_") else {}


def _drop_auxiliary_heads(model: nn.Module) -> None:
    # Inception and GoogLeNet return more than the logits while they are trained. `aux_logits=False` at
    # construction is refused together with weights.
    if getattr(model, "aux_logits", False):
        model.aux_logits = False  # type: ignore[assignment]
        for head in ("AuxLogits", "aux1", "aux2"):
            if hasattr(model, head):
                setattr(model, head, None)


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


def _not_built(name: str, pretrained: bool, error: Exception, unreachable: str = "") -> ModelError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if unreachable:
        reason = f"they are not in the cache, and {unreachable} cannot be reached"
    if pretrained:
        return ModelError(
            f"cannot get the pretrained weights of {name}: {reason}",
            "check the network, copy the cache of a machine that has them (docs/models.md, Weights without a network), "
            "or set pretrained to false",
        )
    return ModelError(f"cannot build {name}: {reason}")


def _check_forward(model: ImageClassifier, name: str, num_classes: int, image_size: int) -> None:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8))
    except ModelError:  # it returns something else than logits
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{name} does not take images of {image_size} x {image_size}: {reason}",
            "set image_size to what the model was made for, or choose another model",
        ) from error
    finally:
        model.train(training)
    if tuple(logits.shape) != (1, num_classes):
        raise ModelError(
            f"{name} gives outputs of shape {tuple(logits.shape)}, not (1, {num_classes})",
            "return logits of num_classes classes, without softmax"
            if ":" in name
            else "choose another model",
        )
