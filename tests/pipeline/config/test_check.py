"""Contradictions between keys: each is found, with its key and a way out; good configs have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_config
from pipeline.config.check import COMPUTE_CAPABILITIES, MIN_CALIBRATION_IMAGES, check
from pipeline.config.schema import DeployConfig, PrecisionSection

CONFIGS = sorted((Path(__file__).parents[3] / "deploy_configs").rglob("*.yaml"))


def _config(**sections: Any) -> DeployConfig:
    base: dict[str, Any] = {
        "name": "demo",
        "data": {"dataset": "fonts", "image_size": 32},
        "teacher": {"model": "figkd/resnet_tiny"},
        "student": {"model": "figkd/dsconv_nano"},
        "targets": {"cpu": {"engine": "onnxruntime"}},
    }
    return DeployConfig.model_validate(base | sections)


def test_a_good_config_has_no_problem() -> None:
    """The checks do not cry wolf."""
    assert check(_config()) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_are_good(path: Path) -> None:
    """Every shipped config loads."""
    assert load_config(path).name


CASES: list[tuple[dict[str, Any], str, str]] = [
    (
        {"teacher": {"model": "figkd/resnet_tiny", "batch_size": 8, "accumulate": 3, "replicas": 3}},
        "teacher.replicas",
        "divides teacher.batch_size = 8 into 9",
    ),
    (
        {"distill": {"batch_size": 8, "accumulate": 9}},
        "distill.accumulate",
        "divides distill.batch_size = 8 into 9",
    ),
    ({"targets": {"a": {"engine": "tensorrt", "power_mode": "15W"}}}, "targets.a.power_mode", "ssh://"),
    ({"targets": {"a": {"engine": "tensorrt", "power_modes": ["15W"]}}}, "targets.a.power_modes", "ssh://"),
    (
        {"targets": {"a": {"engine": "tensorrt", "device": "ssh://orin", "power_modes": ["15W", "15w"]}}},
        "targets.a.power_modes",
        "twice",
    ),
    (
        {
            "targets": {
                "a": {
                    "engine": "tensorrt",
                    "device": "ssh://orin",
                    "power_mode": "MAXN",
                    "power_modes": ["15W", "25W"],
                }
            }
        },
        "targets.a.power_mode",
        "not one of power_modes",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt", "device": "ssh://orin", "strip_weights": True}}},
        "targets.a.strip_weights",
        "for itself alone",
    ),
    ({"data": {"dataset": "image_folder"}}, "data.root", "is required"),
    (
        {"data": {"dataset": "fonts", "options": {"train_perclass": 3}}},
        "data.options.train_perclass",
        "no such option",
    ),
    (
        {"data": {"dataset": "fonts", "options": {"train_per_class": "x"}}},
        "data.options.train_per_class",
        "type int",
    ),
    ({"data": {"dataset": "fonts", "image_size": 64, "store_size": 32}}, "data.store_size", "smaller than"),
    (
        {"teacher": {"model": "figkd/resnet_tiny", "checkpoint": "nowhere.pt"}},
        "teacher.checkpoint",
        "no such file",
    ),
    (
        {"teacher": {"model": "figkd/resnet_tiny", "checkpoint": __file__, "pretrained": True}},
        "teacher.pretrained",
        "contradicts",
    ),
    ({"teacher": {"model": "figkd/resnet_tiny", "epochs": 0}}, "teacher.epochs", "learnt nothing"),
    (
        {"teacher": {"model": "timm/resnet18", "pretrained": True, "epochs": 0}},
        "teacher.epochs",
        "which these are is not known",
    ),
    (
        {"teacher": {"model": "timm/resnet18", "classes": ["a", "b"]}},
        "teacher.classes",
        "is not used without",
    ),
    (
        {"teacher": {"model": "timm/resnet18", "checkpoint": __file__, "classes": "nowhere.txt"}},
        "teacher.classes",
        "no such file",
    ),
    ({"student": {"model": "timm/resnet18", "checkpoint": "no.pt"}}, "student.checkpoint", "no such file"),
    ({"student": {"model": "timm/resnet18", "mean": [0.5, 0.5, 0.5]}}, "student.mean", "is not used without"),
    (
        {"student": {"model": "timm/resnet18", "checkpoint": __file__, "std": [0.5, 0.5, 0.5]}},
        "student.mean",
        "belong together",
    ),
    ({"distill": {"epochs": 0}}, "distill.epochs", "must be trained"),
    ({"distill": {"epochs": 3, "warmup_epochs": 3}}, "distill.warmup_epochs", "leaves nothing"),
    ({"distill": {"views": {"kind": "shift", "pad": 0}}}, "distill.views.pad", "needs padding"),
    ({"distill": {"figkd": {"wavelet": "db99"}}}, "distill.figkd.wavelet", "unknown discrete wavelet"),
    ({"distill": {"figkd": {"mode": "symetric"}}}, "distill.figkd.mode", "unknown extension mode"),
    ({"distill": {"figkd": {"order": "hierarchy"}}}, "distill.figkd.hierarchy", "is required"),
    ({"distill": {"figkd": {"hierarchy": "x.json"}}}, "distill.figkd.hierarchy", "is not used"),
    ({"precision": {"calibration_images": 3}}, "precision.calibration_images", "INT8 needs"),
    ({"export": {"opset": 18}}, "export.opset", "opset 19"),
    ({"precision": {"modes": ["fp16", "fp16"]}}, "precision.modes", "twice"),
    (
        {"precision": {"modes": ["fp16"]}, "targets": {"a": {"engine": "tensorrt", "precisions": ["int8"]}}},
        "targets.a.precisions",
        "is not made",
    ),
    ({"targets": {"a": {"engine": "onnxruntime", "batch_sizes": [8]}}}, "targets.a.batch_sizes", "batch 1"),
    (
        {"precision": {"modes": ["fp16"], "qad": {"when": "always"}}},
        "precision.qad.when",
        "fine-tunes INT8, which precision.modes lacks",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt", "device": "ssh:orin"}}},
        "targets.a.device",
        "must be local or ssh",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt", "device": "ssh://me:secret@orin"}}},
        "targets.a.device",
        "holds a password",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt", "remote": {"folder": "/data/x"}}}},
        "targets.a.remote",
        "is for ssh:// devices",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt", "device": "ssh://orin", "remote": {"folder": "~"}}}},
        "targets.a.remote.folder",
        "must be a folder below",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt", "device": "ssh://orin", "remote": {"ssh_config": "none"}}}},
        "targets.a.remote.ssh_config",
        "no such file",
    ),
    ({"targets": {"a": {"engine": "tensorrt", "threads": 2}}}, "targets.a.threads", "is not for engine"),
    (
        {"targets": {"a": {"engine": "tensorrt_rtx", "version_compatible": True}}},
        "targets.a.version_compatible",
        "is not for engine",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt_rtx", "hardware_compatibility": "ampere_plus"}}},
        "targets.a.hardware_compatibility",
        "is not for engine",
    ),
    (
        {"targets": {"a": {"engine": "onnxruntime", "strip_weights": True}}},
        "targets.a.strip_weights",
        "is not for engine",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt", "strip_weights": True, "version_compatible": True}}},
        "targets.a.strip_weights",
        "contradicts version_compatible",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt_rtx", "compute_capabilities": ["SM87"]}}},
        "targets.a.compute_capabilities",
        "unknown",
    ),
    (
        {"targets": {"a": {"engine": "tensorrt_rtx", "compute_capabilities": ["SM75"]}}},
        "targets.a.compute_capabilities",
        "Turing",
    ),
    (
        {
            "precision": {"modes": ["bf16"]},
            "targets": {"a": {"engine": "onnxruntime", "precisions": ["bf16"]}},
        },
        "targets.a.precisions",
        "no BF16 kernels",
    ),
    ({"precision": {"modes": ["bf16"], "force_fp16": ["Pow"]}}, "precision.force_fp16", "no FP16 is made"),
    (
        {"precision": {"mixed": "never", "qad": {"when": "never"}, "int8_max_drop": 1.0}},
        "precision.int8_max_drop",
        "is not used by mixed: never",
    ),
    ({"targets": {"a b": {"engine": "onnxruntime"}}}, "targets.a b", "a target's name"),
    ({"benchmark": {"min_seconds": 20}}, "benchmark.max_seconds", "is below"),
    ({"export": {"input": "float32_nchw"}}, "benchmark.boundaries", "normalises inside"),
    ({"budgets": {"top1": {}}}, "budgets.top1", "sets no goal"),
    ({"budgets": {"engine_mb": {"min": 3}}}, "budgets.engine_mb.min", "makes no sense"),
    ({"budgets": {"top1": {"min": 3, "target": ["cpuu"]}}}, "budgets.top1.target", "no such target"),
    (
        {"budgets": {"throughput": {"min": 3}}, "benchmark": {"boundaries": ["engine+copies"]}},
        "budgets.throughput",
        "not measured",
    ),
    (
        {"budgets": {"latency_p99_ms": {"max": 3}}, "benchmark": {"min_samples": 100}},
        "budgets.latency_p99_ms",
        "needs 1000 samples",
    ),
]


@pytest.mark.parametrize(("sections", "key", "reason"), CASES, ids=[c[1] + " " + c[2] for c in CASES])
def test_contradictions(sections: dict[str, Any], key: str, reason: str) -> None:
    """Each contradiction is reported at its key, and is the only problem."""
    problems = check(_config(**sections))
    assert [p.key for p in problems] == [key], [str(p) for p in problems]
    assert reason in problems[0].reason


def test_lists_kept_in_two_places_agree() -> None:
    """Names repeated here, to keep heavy imports away, are those of the packages that own them."""
    from typing import get_args

    from export.precision import MIN_CALIBRATION_IMAGES as ENFORCED
    from export.precision import RULES

    assert MIN_CALIBRATION_IMAGES == ENFORCED
    (rules,) = get_args(PrecisionSection.model_fields["without_rules"].annotation)
    assert set(get_args(rules)) == {rule.name for rule in RULES if rule.optional}
    tensorrt_rtx = pytest.importorskip("tensorrt_rtx")
    offered = {name for name in dir(tensorrt_rtx.ComputeCapability) if name.startswith("SM")}
    assert set(COMPUTE_CAPABILITIES) <= offered
