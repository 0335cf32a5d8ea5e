"""The shipped configs of the literature's protocols: what they resolve to is what the protocols say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_config
from pipeline.config.schema import DeployConfig, Training

FOLDER = Path(__file__).parents[2] / "deploy_configs" / "paper"
FILES = sorted(FOLDER.glob("*.yaml"))

# RepDistiller and mdistiller: SGD without Nesterov, all parameters decayed, x0.1 after epochs 150, 180 and 210.
CIFAR: dict[str, Any] = {
    "epochs": 240,
    "batch_size": 64,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": False,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "decay_norms": True,
    "schedule": "step",
    "step_factor": 0.1,
    "warmup_epochs": 0,
    "ema_decay": None,
    "grad_clip": None,
    "label_smoothing": 0,
    "accumulate": 1,
    "amp": "none",
}
# CS-KD and FRSKD: 200 epochs, x0.1 after 100 and 150.
SCRATCH = CIFAR | {"epochs": 200, "batch_size": 32, "lr": 0.1, "weight_decay": 1e-4}
PRETRAINED: dict[str, Any] = {"epochs": 50, "optimizer": "adamw", "schedule": "cosine"}

PAIRS = {
    "resnet32x4_resnet8x4": ("figkd/resnet32x4", "figkd/resnet8x4", 0.05),
    "wrn_40_2_wrn_16_2": ("figkd/wrn_40_2", "figkd/wrn_16_2", 0.05),
    "wrn_40_2_wrn_40_1": ("figkd/wrn_40_2", "figkd/wrn_40_1", 0.05),
    "resnet56_resnet20": ("figkd/resnet56", "figkd/resnet20", 0.05),
    "vgg13_vgg8": ("figkd/vgg13", "figkd/vgg8", 0.05),
    "resnet50_mobilenetv2": ("figkd/resnet50_cifar", "figkd/mobilenetv2_half", 0.01),
    "resnet32x4_shufflenetv1": ("figkd/resnet32x4", "figkd/shufflenetv1", 0.01),
    "resnet32x4_shufflenetv2": ("figkd/resnet32x4", "figkd/shufflenetv2", 0.01),
}
FINE_GRAINED = ("cub200", "stanford_dogs", "mit67", "stanford40")
MODELS = {
    ("scratch", "resnet34_resnet18"): ("torchvision/resnet34", "torchvision/resnet18"),
    ("scratch", "resnet50_mobilenetv2"): ("torchvision/resnet50", "torchvision/mobilenet_v2"),
    ("pretrained", "resnet34_resnet18"): ("timm/resnet34.tv_in1k", "timm/resnet18.tv_in1k"),
    ("pretrained", "resnet50_mobilenetv2"): ("timm/resnet50.tv_in1k", "timm/mobilenetv2_100.ra_in1k"),
}


def _load(name: str) -> DeployConfig:
    return load_config(FOLDER / f"{name}.yaml")


def _said(section: Training, keys: dict[str, Any]) -> dict[str, Any]:
    return {key: getattr(section, key) for key in keys}


def _decays(section: Training) -> list[float]:
    """Epochs after which the learning rate falls."""
    return [section.epochs * share for share in section.step_at]


def test_every_protocol_and_pair_is_there_and_nothing_else() -> None:
    """A pair cannot be forgotten, and a file cannot stand here without a test."""
    expected = {"cifar100", "scratch", "pretrained", *(f"cifar100_{pair}" for pair in PAIRS)}
    expected |= {f"{data}_{protocol}_{pair}" for data in FINE_GRAINED for protocol, pair in MODELS}
    assert {path.stem for path in FILES} == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_says_how_to_run_it_and_what_to_compare_with(path: Path) -> None:
    """The command at the top is that of the file, its name is the file's, and the CPU is the only thing required."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1] == f"# make pipeline CONFIG=deploy_configs/paper/{path.name}"
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert "ompare" in header or "Literature: " in header
    config = load_config(path)
    assert config.name == path.stem
    assert config.distill.method == "figkd"
    assert [(t.engine, t.required) for t in config.targets.values()] == [
        ("onnxruntime", True),
        ("tensorrt_rtx", False),
    ]


@pytest.mark.parametrize("pair", PAIRS)
def test_cifar100(pair: str) -> None:
    """Numbers made with these files are those of the published protocol, teacher and student alike."""
    config = _load(f"cifar100_{pair}")
    teacher, student, lr = PAIRS[pair]
    assert (config.teacher.model, config.student.model) == (teacher, student)
    assert not config.teacher.pretrained and not config.student.pretrained
    assert _said(config.teacher, CIFAR) == CIFAR
    assert _said(config.distill, CIFAR) == CIFAR | {"lr": lr}
    for section in (config.teacher, config.distill):
        assert _decays(section) == [150, 180, 210]
        assert not section.mixup and not section.cutmix
        assert section.views.model_dump() == {"kind": "shift_flip", "pad": 4, "count": None}
    assert (config.data.dataset, config.data.image_size, config.data.store_size) == ("cifar100", 32, 32)
    assert round(config.data.validation_fraction * 500) == 1, "one image of a class's 500 is held out"


@pytest.mark.parametrize("pair", ["resnet34_resnet18", "resnet50_mobilenetv2"])
@pytest.mark.parametrize("data", FINE_GRAINED)
def test_fine_grained_from_scratch(data: str, pair: str) -> None:
    """Nothing pretrained gets into the protocol from scratch."""
    config = _load(f"{data}_scratch_{pair}")
    assert (config.teacher.model, config.student.model) == MODELS["scratch", pair]
    assert not config.teacher.pretrained and not config.student.pretrained
    for section in (config.teacher, config.distill):
        assert _said(section, SCRATCH) == SCRATCH
        assert _decays(section) == [100, 150]
        assert not section.mixup and not section.cutmix
        assert section.views.kind == "random_resized_crop"
    assert (config.data.dataset, config.data.image_size) == (data, 224)
    assert config.data.root == Path("data") / data


@pytest.mark.parametrize("pair", ["resnet34_resnet18", "resnet50_mobilenetv2"])
@pytest.mark.parametrize("data", FINE_GRAINED)
def test_fine_grained_pretrained(data: str, pair: str) -> None:
    """Both start from named weights, and Stanford Dogs says that they have seen its test images."""
    config = _load(f"{data}_pretrained_{pair}")
    assert (config.teacher.model, config.student.model) == MODELS["pretrained", pair]
    assert config.teacher.pretrained and config.student.pretrained
    for section in (config.teacher, config.distill):
        assert _said(section, PRETRAINED) == PRETRAINED
        assert section.views.kind == "random_resized_crop"
    assert (config.data.dataset, config.data.root) == (data, Path("data") / data)
    text = (FOLDER / f"{data}_pretrained_{pair}.yaml").read_text(encoding="utf-8")
    assert ("subset of ImageNet" in text) == (data == "stanford_dogs")


def test_a_baseline_and_a_seed_are_one_override_away() -> None:
    """What the headers tell to type works."""
    path = FOLDER / "cifar100_resnet56_resnet20.yaml"
    config = load_config(path, ["distill.method=kd", "distill.seed=1", "name=kd_1"])
    assert (config.distill.method, config.distill.seed, config.name) == ("kd", 1, "kd_1")
    assert config.teacher == load_config(path).teacher, "the teacher is shared"
