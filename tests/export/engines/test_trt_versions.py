"""Protects: the one table of differences between TensorRT versions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from export.engines.trt_versions import DIALECTS, bindings_missing, dialect, parse_version
from export.errors import BackendMissing


@pytest.mark.parametrize(
    ("text", "version"),
    [("10.3.0", (10, 3, 0)), ("11.4.0.106", (11, 4, 0, 106)), ("8.6.1.post1", (8, 6, 1)), ("", ())],
)
def test_versions_are_compared_as_numbers(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("module", "version", "flag", "max_opset", "ahead_of_time"),
    [
        ("tensorrt", "8.6.1", "EXPLICIT_BATCH", 17, False),
        ("tensorrt", "10.3.0", "STRONGLY_TYPED", 20, False),
        ("tensorrt", "10.13.3.9", "STRONGLY_TYPED", 20, False),
        ("tensorrt", "10.16.1", "STRONGLY_TYPED", 24, False),
        ("tensorrt", "11.4.0.106", "STRONGLY_TYPED", 24, False),
        ("tensorrt_rtx", "1.7.1.116", "STRONGLY_TYPED", 24, True),
    ],
)
def test_dialects(module: str, version: str, flag: str, max_opset: int, ahead_of_time: bool) -> None:
    chosen = dialect(module, version)
    assert (chosen.network_flag, chosen.max_opset) == (flag, max_opset)
    assert chosen.compute_capabilities is ahead_of_time
    assert chosen.timing_cache is not ahead_of_time  # on RTX it does nothing and asks for a GPU
    assert bool(chosen.precision_flags) is (version == "8.6.1")


def test_old_versions_are_refused() -> None:
    for module, version in (("tensorrt", "8.5.3"), ("tensorrt_rtx", "1.1")):
        with pytest.raises(BackendMissing, match=f"{module} {version} is too old"):
            dialect(module, version)


def test_rows_ascend() -> None:
    for rows in DIALECTS.values():
        assert [first for first, _ in rows] == sorted(first for first, _ in rows)


def test_missing_bindings_are_named() -> None:
    missing = bindings_missing(SimpleNamespace(Builder=None), dialect("tensorrt", "10.3.0"))
    assert "IProgressMonitor" in missing and "Builder.build_serialized_network" in missing
    assert "Builder" not in missing
