"""Models by name: input layout, normalisation, clear refusals."""

from __future__ import annotations

import subprocess
import warnings
from typing import Any, cast

import pytest
import torch
from torch import nn

from figkd.errors import ModelError
from figkd.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageClassifier,
    build_model,
    parameter_count,
    reparameterize_for_export,
)
from tests.warm import environment, warm


class _Record(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return x.mean((2, 3))


def test_normalisation_and_layout() -> None:
    """Protects the input contract: uint8 NHWC in, (x/255-mean)/std as channels-last NCHW to the backbone."""
    backbone = _Record()
    images = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    logits = ImageClassifier(backbone, IMAGENET_MEAN, IMAGENET_STD)(images)
    expected = (images.float() / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(backbone.seen, expected.permute(0, 3, 1, 2))
    assert backbone.seen.is_contiguous(memory_format=torch.channels_last)
    assert logits.dtype == torch.float32
    assert logits.shape == (2, 3)


def test_normalisation_travels_with_the_weights() -> None:
    """Protects a loaded model from another data set's mean and std."""
    source = ImageClassifier(_Record(), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    target = ImageClassifier(_Record())
    target.load_state_dict(source.state_dict())
    torch.testing.assert_close(target.std, torch.tensor([0.4, 0.5, 0.6]))


@pytest.mark.parametrize("name", ["figkd/resnet_tiny", "figkd/dsconv_nano"])
def test_tiny_models(name: str) -> None:
    """Protects the tiny models: they run, train, and have the advertised size (the others: test_networks.py)."""
    model = build_model(name, 21, image_size=32)
    logits = model(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    logits.sum().backward()
    assert logits.shape == (2, 21)
    assert all(parameter.grad is not None for parameter in model.parameters())
    low, high = {"figkd/resnet_tiny": (3e5, 8e5), "figkd/dsconv_nano": (4.5e3, 5.5e3)}[name]
    assert low < parameter_count(model) < high


def test_timm_and_torchvision_models() -> None:
    """Protects the two families: class count and ImageNet's normalisation."""
    for name in ("timm/resnet10t", "torchvision/squeezenet1_1"):
        model = build_model(name, 5, image_size=64)
        assert model.eval()(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape == (1, 5)
        torch.testing.assert_close(model.mean, torch.tensor(IMAGENET_MEAN))


def test_refusals() -> None:
    """Protects: an impossible request is one clear message before any training."""
    with pytest.raises(ModelError, match=r"unknown model 'figkd/resnet_tini'.*figkd/resnet_tiny"):
        build_model("figkd/resnet_tini", 3, image_size=32)
    with pytest.raises(ModelError, match="does not take images of 8 x 8"):
        build_model("timm/deit_tiny_patch16_224", 3, image_size=8)
    with pytest.raises(ModelError, match="does not take images of 32 x 32"):
        build_model("timm/efficientformer_l1", 3, image_size=32)
    with pytest.raises(ModelError, match="no pretrained weights"):
        build_model("figkd/resnet_tiny", 3, pretrained=True, image_size=32)
    with pytest.raises(ModelError, match="1 classes"):
        build_model("figkd/resnet_tiny", 1, image_size=32)
    with pytest.raises(ModelError, match="mean"):
        ImageClassifier(_Record(), (0.5,), (0.5,))


def test_reparameterisation_keeps_the_function() -> None:
    """Protects exports: folded RepVGG blocks compute the same, the original stays as it was."""
    torch.manual_seed(0)
    model = build_model("timm/repvgg_a0", 3, image_size=32).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    before, size = model(images), parameter_count(model)
    folded = reparameterize_for_export(model)
    assert parameter_count(folded) < size == parameter_count(model)
    torch.testing.assert_close(folded(images), before, rtol=1e-3, atol=1e-3)


def test_reparameterisation_of_a_plain_model_is_a_copy() -> None:
    """Protects models without such blocks: unchanged, and in eval mode."""
    model = build_model("figkd/dsconv_nano", 3, image_size=32)
    other = reparameterize_for_export(model)
    assert other is not model
    assert not other.training
    assert model.training
    assert list(other.state_dict()) == list(model.state_dict())


def test_a_network_that_crashes_in_channels_last_is_trained_in_the_plain_layout() -> None:
    """Protects against a segmentation fault of oneDNN; runs in its own process, which would die of it."""
    code = (
        "import torch; from figkd.models import build_model; from figkd.models import place\n"
        "torch.set_num_threads(2)\n"
        "model = place(build_model('timm/repvgg_a0', 5, image_size=32), 'cpu').train()\n"
        "assert not model.channels_last\n"
        "for _ in range(3):\n"
        "    model(torch.zeros(16, 32, 32, 3, dtype=torch.uint8)).square().mean().backward()\n"
    )
    done = subprocess.run(warm().command("-c", code), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert build_model("timm/resnet10t", 5, image_size=32).channels_last


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/levit_128s"])
def test_vision_transformers_are_built_for_the_image_size(name: str) -> None:
    """Protects transformers at another size than their usual one: they used to be refused."""
    model = build_model(name, 3, image_size=96).eval()
    assert model(torch.zeros(1, 96, 96, 3, dtype=torch.uint8)).shape == (1, 3)


def test_pretrained_transformers_are_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects pretrained transformers at another size: timm is asked for it, and convolutions never are."""
    import timm

    asked: list[dict[str, Any]] = []
    build = timm.create_model

    def create(name: str, *, pretrained: bool, **options: Any) -> nn.Module:
        asked.append({"pretrained": pretrained, **options})
        return cast(nn.Module, build(name, pretrained=False, **options))

    monkeypatch.setattr(timm, "create_model", create)
    build_model("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", 3, pretrained=True, image_size=64)
    build_model("timm/resnet10t", 3, image_size=64)
    assert asked == [
        {"pretrained": True, "num_classes": 3, "img_size": 64},
        {"pretrained": False, "num_classes": 3},
    ]


def test_auxiliary_heads_are_left_out() -> None:
    """Protects training of GoogLeNet: it returned a tuple in train mode, and its extra heads would get no gradient."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = build_model("torchvision/googlenet", 3, image_size=64).train()
    model(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_network_with_several_outputs_is_refused() -> None:
    """Protects a user's own network: a clear message, where `train` would fail on a tuple."""

    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.mean((2, 3)), x.amax((2, 3))

    with pytest.raises(ModelError, match="Two returns several outputs"):
        ImageClassifier(Two())(torch.zeros(1, 4, 4, 3, dtype=torch.uint8))


# Every family that people ask for, at its usual size, and transformers at others.
POPULAR = [
    ("timm/resnet18", 224), ("timm/resnet34", 224), ("timm/resnet50", 224), ("timm/mobilenetv2_100", 224),
    ("timm/mobilenetv3_small_100", 224), ("timm/mobilenetv4_conv_small", 224), ("timm/efficientnet_lite0", 224),
    ("timm/efficientnet_b0", 224), ("timm/repvgg_a0", 224), ("timm/ghostnet_100", 224), ("timm/regnety_002", 224),
    ("timm/convnext_atto", 224), ("timm/convnext_femto", 224), ("timm/fastvit_t8", 256),
    ("timm/efficientvit_b0", 224), ("timm/levit_128s", 224), ("timm/mobilevit_xxs", 256),
    ("timm/deit_tiny_patch16_224", 224), ("timm/deit_tiny_distilled_patch16_224", 224),
    ("timm/vit_tiny_patch16_224", 224), ("timm/vit_tiny_patch16_224", 160), ("timm/repvit_m0_9", 224),
    ("timm/edgenext_xx_small", 256), ("timm/mobileone_s0", 224), ("timm/inception_v3", 299),
    ("timm/swin_tiny_patch4_window7_224", 192), ("torchvision/resnet18", 224), ("torchvision/mobilenet_v2", 224),
    ("torchvision/mobilenet_v3_small", 224), ("torchvision/shufflenet_v2_x1_0", 224),
    ("torchvision/efficientnet_b0", 224), ("torchvision/regnet_y_400mf", 224), ("torchvision/vit_b_16", 160),
    ("torchvision/inception_v3", 299),
]  # fmt: skip

_ONE_STEP = """
import sys, torch
from figkd.models import build_model
from figkd.models import place

torch.set_num_threads(2)
name, size = sys.argv[1], int(sys.argv[2])
model = place(build_model(name, 7, image_size=size), "cpu").train()
images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
torch.nn.functional.cross_entropy(model(images), torch.tensor([1, 2])).backward()
missing = [key for key, parameter in model.named_parameters() if parameter.grad is None]
assert not missing, missing
logits = model.eval()(images)
assert logits.shape == (2, 7) and torch.isfinite(logits).all()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), POPULAR)
def test_popular_models_train(name: str, size: int) -> None:
    """Protects a user's choice: a step of training in the layout that training uses, a gradient for every weight (as
    data parallelism needs), and evaluation; each in a process of its own, as a crash would end it."""
    done = subprocess.run(
        warm().command("-c", _ONE_STEP, name, str(size)),
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
