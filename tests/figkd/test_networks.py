"""The built-in networks: sizes, functions, first weights, gradients and export."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.onnx import check_parity, export_onnx
from figkd.model_names import BUILT_IN
from figkd.models import build_model, parameter_count
from figkd.networks import NETWORKS

CIFAR = [name for name in NETWORKS if name not in ("figkd/resnet_tiny", "figkd/dsconv_nano")]
SHUFFLE = ("figkd/shufflenetv1", "figkd/shufflenetv2")

# Parameters at 100 classes, from RepDistiller's public definitions (github.com/HobbitLong/RepDistiller, models/;
# mdistiller has the same), counted by the formulas below.
COUNTS = {
    "figkd/resnet20": 278_324,
    "figkd/resnet32": 472_756,
    "figkd/resnet56": 861_620,
    "figkd/resnet110": 1_736_564,
    "figkd/resnet8x4": 1_233_540,
    "figkd/resnet32x4": 7_433_860,
    "figkd/resnet50_cifar": 23_705_252,
    "figkd/wrn_16_2": 703_284,
    "figkd/wrn_40_1": 569_780,
    "figkd/wrn_40_2": 2_255_156,
    "figkd/vgg8": 3_965_028,
    "figkd/vgg13": 9_462_180,
    "figkd/mobilenetv2_half": 812_836,
    "figkd/shufflenetv1": 949_258,
    "figkd/shufflenetv2": 1_355_528,
}

# Published in millions. The papers have 10 classes; He et al. (arXiv 1512.03385, table 6) have shortcuts without
# weights, Wide ResNets are in arXiv 1605.07146 and, 16-2, in arXiv 1612.03928. ResNet-50 at 100
# classes: github.com/weiaicunzai/pytorch-cifar100. No figure was found for the others.
_PROJECTIONS = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
PUBLISHED = [
    ("figkd/resnet20", 10, _PROJECTIONS, 0.27),
    ("figkd/resnet32", 10, _PROJECTIONS, 0.46),
    ("figkd/resnet56", 10, _PROJECTIONS, 0.85),
    ("figkd/resnet110", 10, _PROJECTIONS, 1.7),
    ("figkd/wrn_40_1", 10, 0, 0.6),
    ("figkd/wrn_40_2", 10, 0, 2.2),
    ("figkd/wrn_16_2", 10, 0, 0.7),
    ("figkd/resnet50_cifar", 100, 0, 23.7),
]

# Logits of one image at 5 classes in float64, computed with RepDistiller's definitions (not with ours), of the
# weights and the image that `_fill` and `_image` make.
FROZEN = {
    "figkd/resnet20": [3.0788076, -35.158887, -0.09428715, -4.3105999, -75.551135],
    "figkd/resnet32": [506.29676, 364.58984, -123.57761, -409.76747, -795.95488],
    "figkd/resnet56": [2925.2713, -75874.242, -146091.22, -18911.828, -353258.31],
    "figkd/resnet110": [-5975715400.0, -27987612000.0, -13596226000.0, 29817306000.0, -4774316000.0],
    "figkd/resnet8x4": [-0.77319703, -8.7934139, -3.7040053, -3.5682971, -5.5408444],
    "figkd/resnet32x4": [-1620.2785, 3127.3143, 2948.368, 1842.4907, -987.0682],
    "figkd/resnet50_cifar": [-6367.7939, 10520.169, -7267.9687, -4755.8015, -4635.9374],
    "figkd/wrn_16_2": [5.2855927, -12.892914, 12.994677, 19.775912, 36.137655],
    "figkd/wrn_40_1": [-884.40942, -1106.1179, -2328.8119, -1982.2774, 3468.3209],
    "figkd/wrn_40_2": [-185.96976, -724.17181, 1984.6957, -1098.9383, -547.66509],
    "figkd/vgg8": [3.0444724, 0.047334918, -4.8518042, -2.0233085, 1.2867395],
    "figkd/vgg13": [0.30168253, 1.3675268, 1.2609173, -0.7489287, -0.30220286],
    "figkd/mobilenetv2_half": [11600.654, -36820.032, -36329.321, 25870.115, 143.01897],
    "figkd/shufflenetv1": [-233.42098, 36.56719, -169.39459, -87.74721, 259.83046],
    "figkd/shufflenetv2": [6.6812942, 21.062385, 7.3552586, -59.431669, -144.95678],
}


def test_the_names_are_the_networks() -> None:
    """Protects the list of names, which must not import torch, from drifting away from the networks."""
    assert set(NETWORKS) == set(BUILT_IN)
    assert set(CIFAR) == set(COUNTS) == set(FROZEN)


def _norm(width: int) -> int:
    return 2 * width


def _resnet(depth: int, widths: Sequence[int], classes: int) -> int:
    total, width = 27 * widths[0] + _norm(widths[0]), widths[0]
    for out in widths[1:]:
        for _ in range((depth - 2) // 6):
            total += 9 * width * out + 9 * out * out + 2 * _norm(out)
            total += width * out + _norm(out) if width != out else 0
            width = out
    return total + (width + 1) * classes


def _resnet50(classes: int) -> int:
    total, width = 27 * 64 + _norm(64), 64
    for middle, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for _ in range(count):
            out = 4 * middle
            total += width * middle + 9 * middle * middle + middle * out + 2 * _norm(middle) + _norm(out)
            total += width * out + _norm(out) if width != out else 0
            width = out
    return total + (width + 1) * classes


def _wide(depth: int, factor: int, classes: int) -> int:
    total, width = 27 * 16, 16
    for out in (16 * factor, 32 * factor, 64 * factor):
        for _ in range((depth - 4) // 6):
            total += _norm(width) + 9 * width * out + _norm(out) + 9 * out * out
            total += width * out if width != out else 0
            width = out
    return total + _norm(width) + (width + 1) * classes


def _vgg(repeats: int, classes: int) -> int:
    widths = [3] + [out for out in (64, 128, 256, 512, 512) for _ in range(repeats)]
    return (
        sum(9 * width * out + out + _norm(out) for width, out in itertools.pairwise(widths)) + 513 * classes
    )


def _mobile(classes: int) -> int:
    total, width = 27 * 16 + _norm(16), 16
    outs = [8] + [12] * 2 + [16] * 3 + [32] * 4 + [48] * 3 + [80] * 3 + [160]
    for index, out in enumerate(outs):
        middle = width * (1 if index == 0 else 6)
        total += width * middle + 9 * middle + middle * out + 2 * _norm(middle) + _norm(out)
        width = out
    return total + width * 1280 + _norm(1280) + 1281 * classes


def _shuffle1(classes: int) -> int:
    total, width = 3 * 24 + _norm(24), 24
    for stage, count in ((240, 4), (480, 8), (960, 4)):
        for index in range(count):
            out = stage - width if index == 0 else stage
            middle, groups = out // 4, 1 if width == 24 else 3
            total += (
                width * middle // groups + 9 * middle + middle * out // 3 + 2 * _norm(middle) + _norm(out)
            )
            width = stage
    return total + (width + 1) * classes


def _shuffle2(classes: int) -> int:
    total, width = 3 * 24 + _norm(24), 24
    for stage, count in ((116, 3), (232, 7), (464, 3)):
        half = stage // 2
        total += 9 * width + _norm(width) + width * half + _norm(half)
        total += width * half + 9 * half + half * half + 3 * _norm(half)
        total += count * (2 * half * half + 9 * half + 3 * _norm(half))
        width = stage
    return total + width * 1024 + _norm(1024) + 1025 * classes


FORMULAS: dict[str, Callable[[int], int]] = {
    "figkd/resnet20": lambda c: _resnet(20, (16, 16, 32, 64), c),
    "figkd/resnet32": lambda c: _resnet(32, (16, 16, 32, 64), c),
    "figkd/resnet56": lambda c: _resnet(56, (16, 16, 32, 64), c),
    "figkd/resnet110": lambda c: _resnet(110, (16, 16, 32, 64), c),
    "figkd/resnet8x4": lambda c: _resnet(8, (32, 64, 128, 256), c),
    "figkd/resnet32x4": lambda c: _resnet(32, (32, 64, 128, 256), c),
    "figkd/resnet50_cifar": _resnet50,
    "figkd/wrn_16_2": lambda c: _wide(16, 2, c),
    "figkd/wrn_40_1": lambda c: _wide(40, 1, c),
    "figkd/wrn_40_2": lambda c: _wide(40, 2, c),
    "figkd/vgg8": lambda c: _vgg(1, c),
    "figkd/vgg13": lambda c: _vgg(2, c),
    "figkd/mobilenetv2_half": _mobile,
    "figkd/shufflenetv1": _shuffle1,
    "figkd/shufflenetv2": _shuffle2,
}


@pytest.mark.parametrize("name", CIFAR)
def test_parameter_counts(name: str) -> None:
    """Protects comparisons with the literature: each network has exactly its parameters, at any class count."""
    for classes in (100, 7):
        assert parameter_count(NETWORKS[name].build(classes)) == FORMULAS[name](classes)
    assert FORMULAS[name](100) == COUNTS[name]
    assert f"{COUNTS[name] / 1e6:.{1 if COUNTS[name] > 1e7 else 2}f} M parameters" in BUILT_IN[name]


def test_the_documentation_has_every_network_and_its_size() -> None:
    """Protects docs/models.md, which is written by hand."""
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for name, network in NETWORKS.items():
        assert f"| `{name}` | {parameter_count(network.build(100)):,} |" in text


@pytest.mark.parametrize(("name", "classes", "without", "millions"), PUBLISHED)
def test_published_parameter_counts(name: str, classes: int, without: int, millions: float) -> None:
    """Protects the same against figures printed in papers, to the digits that they print (2.24 is printed 2.2)."""
    digits = len(str(millions).split(".")[1])
    assert round((FORMULAS[name](classes) - without) / 1e6, digits) == millions


def _fill(model: nn.Module) -> None:
    """Weights and statistics from numpy's frozen generator, in the order of the network's layers."""
    rng = np.random.RandomState(0)
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if value.ndim >= 2:
            drawn = rng.standard_normal(value.shape) * math.sqrt(2 / value[0].numel())
        elif key.endswith(("bias", "running_mean")):
            drawn = rng.standard_normal(value.shape) * 0.1
        else:
            drawn = rng.uniform(0.5, 1.5, value.shape)
        value.copy_(torch.from_numpy(drawn))


@pytest.mark.parametrize("name", CIFAR)
def test_function_is_the_literatures(name: str) -> None:
    """Protects what counts cannot tell: strides, the order of layers, shortcuts, groups, channel shuffles."""
    model = NETWORKS[name].build(5).double().eval()
    _fill(model)
    image = torch.from_numpy(np.random.RandomState(1).standard_normal((1, 3, 32, 32)))
    with torch.no_grad():
        np.testing.assert_allclose(model(image)[0].numpy(), FROZEN[name], rtol=1e-6)


@pytest.mark.parametrize("name", CIFAR)
def test_trains(name: str) -> None:
    """Protects training: finite logits at an odd class count, a gradient everywhere, statistics only in train mode."""
    torch.manual_seed(0)
    model = build_model(name, 7, image_size=32)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    logits = model(images)
    nn.functional.cross_entropy(logits, torch.tensor([0, 6])).backward()
    assert logits.shape == (2, 7)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
    moved = {key: value.clone() for key, value in model.named_buffers()}
    with torch.no_grad():
        alone, together = model.eval()(images[:1]), model(images)[:1]
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, moved[key]) for key, value in model.named_buffers())


@pytest.mark.parametrize(
    "name", ["figkd/resnet8x4", "figkd/vgg8", "figkd/mobilenetv2_half", "figkd/shufflenetv2"]
)
def test_other_image_sizes(name: str) -> None:
    """Protects use beyond CIFAR: images of 64 px and of 40 px go through."""
    for size in (64, 40):
        build_model(name, 3, image_size=size)


@pytest.mark.parametrize("name", CIFAR)
def test_first_weights_are_the_literatures(name: str) -> None:
    """Protects the start of training: He's normal weights over outgoing connections, but for the ShuffleNets."""
    torch.manual_seed(0)
    network = NETWORKS[name].build(100)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 20_000:
            outgoing = module.out_channels * math.prod(module.kernel_size)
            incoming = module.weight[0].numel()
            expected = math.sqrt(1 / (3 * incoming) if name in SHUFFLE else 2 / outgoing)
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.Linear):
            small = name.startswith(("figkd/vgg", "figkd/mobile"))
            expected = 0.01 if small else math.sqrt(1 / (3 * module.in_features))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert module.bias.any() != (small or "wrn" in name)


def test_normalisation_is_cifars() -> None:
    """Protects the published protocol: CIFAR-100's mean and deviation go into the classifier."""
    model = build_model("figkd/resnet20", 100, image_size=32)
    torch.testing.assert_close(model.mean, torch.tensor([0.5071, 0.4867, 0.4408]))
    torch.testing.assert_close(model.std, torch.tensor([0.2675, 0.2565, 0.2761]))
    torch.testing.assert_close(build_model("figkd/resnet_tiny", 3, image_size=32).std, torch.full((3,), 0.25))


def _export_and_compare(name: str, folder: Path) -> None:
    torch.manual_seed(0)
    model = build_model(name, 7, image_size=32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 32, 32, 3), np.uint8)
    with torch.no_grad():  # statistics of real activations, so that the logits are of usual size
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        model.train()(torch.from_numpy(images))
    path = folder / "model.onnx"
    facts = export_onnx(model.eval(), torch.from_numpy(images[:1]), path, dynamic_batch=True)
    report = check_parity(model, path, [images[:6]])
    assert report.ok, report
    assert min(case.cosine for case in report.cases) > 0.99999
    assert facts["outputs"][0]["shape"][1] == 7
    assert not {"Loop", "If", "Range", "GatherND"} & set(facts["ops"])


@pytest.mark.parametrize("name", ["figkd/wrn_16_2", "figkd/shufflenetv2"])
def test_exports(name: str, tmp_path: Path) -> None:
    """Protects deployment: pre-activation blocks and channel shuffles become plain ONNX that computes the same."""
    _export_and_compare(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_exports(name: str, tmp_path: Path) -> None:
    """Protects deployment of each network: exported, run by ONNX Runtime, compared at batches of 1 and 3."""
    _export_and_compare(name, tmp_path)
