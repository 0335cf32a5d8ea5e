"""What trtexec is told: nothing is left to a default, because defaults were turned over between versions."""

from __future__ import annotations

from typing import Any

import pytest

from export.engines.trtexec import TABLE, build_arguments, flags, shape_flags
from export.errors import BackendMissing, BuildError


@pytest.mark.parametrize(
    ("version", "engine", "copies", "infer"),
    [
        ("8.6.2", "--useCudaGraph --useSpinWait --noDataTransfers --exposeDMA",
         "--useCudaGraph --useSpinWait --exposeDMA", ""),
        ("10.3.0", "--useCudaGraph --useSpinWait --noDataTransfers --exposeDMA",
         "--useCudaGraph --useSpinWait --exposeDMA", ""),
        ("11.4.1.106", "--exposeDMA", "--includeDataTransfers --exposeDMA", "--includeDataTransfers"),
    ],
)  # fmt: skip
def test_the_same_is_timed_in_every_version(version: str, engine: str, copies: str, infer: str) -> None:
    """CUDA graph and spinning on, transfers as the boundary says, one query in flight."""
    table = flags(version)
    assert " ".join(table.time["engine"]) == engine
    assert " ".join(table.time["engine+copies"]) == copies
    assert " ".join(table.infer) == infer


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        ("8.5.2", {"precision": "int8"}, "--buildOnly --fp16 --int8"),
        ("8.6.2", {"precision": "fp16", "optimization_level": 4},
         "--skipInference --fp16 --builderOptimizationLevel=4"),
        ("8.5.2", {"precision": "fp32", "optimization_level": 3}, "--buildOnly"),
        ("10.3.0", {"precision": "int8", "workspace_mb": 512},
         "--skipInference --stronglyTyped --memPoolSize=workspace:512"),
        ("10.3.0", {"precision": "int8", "strong_typing": False}, "--skipInference --fp16 --int8"),
        ("11.4.1", {"precision": "int8"}, "--skipInference"),
        ("8.5.2", {"precision": "fp16", "fp32_layers": ["0001_Conv", "0002_Norm/Mul_1"]},
         "--buildOnly --fp16 --precisionConstraints=obey --layerPrecisions=0001_Conv:fp32,0002_Norm/Mul_1:fp32 "
         "--layerOutputTypes=0001_Conv:fp32,0002_Norm/Mul_1:fp32"),
        ("10.3.0", {"precision": "fp16", "fp32_layers": ["0001_Conv"]}, "--skipInference --stronglyTyped"),
    ],
)  # fmt: skip
def test_a_build_says_its_precision_where_the_version_has_a_choice(
    version: str, options: dict[str, object], expected: str
) -> None:
    """Up to 8.6 by flags, from 10 by strong typing, from 11 always."""
    found = build_arguments(flags(version), **options)  # type: ignore[arg-type]
    assert found[:3] == ["--onnx={onnx}", "--saveEngine={engine}", "--timingCacheFile={cache}"]
    assert found[3:5] == ["--profilingVerbosity=detailed", "--exportLayerInfo={layers}"]
    assert " ".join(found[5:]) == expected


@pytest.mark.parametrize(
    ("version", "options"), [("11.0.0", {"strong_typing": False}), ("8.5.2", {"optimization_level": 4})]
)
def test_what_a_version_does_not_have_is_no_flag_and_no_silence(
    version: str, options: dict[str, Any]
) -> None:
    """An option is an argument or an error."""
    with pytest.raises(BuildError):
        build_arguments(flags(version), precision="fp16", **options)


def test_profiles_cover_the_batch_sizes() -> None:
    """The first size is the one to optimise for."""
    assert shape_flags("image", [224, 224, 3], [4, 1, 8]) == [
        "--minShapes=image:1x224x224x3", "--optShapes=image:4x224x224x3", "--maxShapes=image:8x224x224x3"
    ]  # fmt: skip


def test_older_versions_are_refused() -> None:
    """With a message, not with flags that they do not know."""
    assert [first for first, _ in TABLE] == sorted(first for first, _ in TABLE)
    with pytest.raises(BackendMissing, match="too old"):
        flags("8.4.1")
    with pytest.raises(BackendMissing, match="unknown version"):
        flags("")
