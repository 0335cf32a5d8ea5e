"""Which way a back end is used on a device, and what is missing with what helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from export.engine_kinds import ENGINE_KINDS
from export.engines.trt_refusals import Place
from pipeline.places.access import access_of, describe, environment_of, place_of, timing_cache

ORIN: dict[str, Any] = {
    "board": "NVIDIA Jetson Orin Nano Developer Kit", "jetpack": "6.2", "l4t": "36.4.3", "soc": "tegra234",
    "gpu": "Orin", "compute_capability": "SM87", "machine": "aarch64", "os": "Ubuntu 22.04.5 LTS",
    "packages": {"numpy": "1.21.5"},
}  # fmt: skip


def _trt(python: str = "", trtexec: str = "", library: str = "") -> dict[str, Any]:
    where = "/usr/src/tensorrt/bin/trtexec" if trtexec else ""
    return {"tensorrt": {"python": python, "trtexec": where, "trtexec_version": trtexec, "library": library}}


@pytest.mark.parametrize(
    ("trt", "name", "version"),
    [
        (_trt("10.3.0", "10.3.0"), "python", "10.3.0"),
        (_trt("", "10.3.0"), "trtexec", "10.3.0"),
        (_trt("8.5.2", "8.5.2"), "python", "8.5.2"),
        (_trt("", "8.5.2"), "trtexec", "8.5.2"),
        (_trt("8.4.1", "8.5.2"), "trtexec", "8.5.2"),
        (_trt("8.6.2"), "python", "8.6.2"),
    ],
)
def test_the_python_api_comes_first_and_trtexec_serves_where_it_cannot(
    trt: dict[str, Any], name: str, version: str
) -> None:
    """A Python module that is too old does not hide a program that is not."""
    method = access_of(ORIN | trt, "tensorrt")
    assert (method.name, method.built, method.run, method.versions) == (
        name,
        True,
        True,
        {"tensorrt": version},
    )
    assert place_of(ORIN | trt, "tensorrt") == Place("tensorrt", version, method.name, True, True, "SM87")


@pytest.mark.parametrize(
    ("facts", "detail", "fix"),
    [
        (ORIN | _trt(), "TensorRT is not installed", "nvidia-jetpack"),
        (ORIN | _trt(library="10.3.0"), "neither its Python module nor trtexec", "nvidia-jetpack"),
        (ORIN | _trt("8.2.1", "8.2.1"), "8.2.1 is too old", "update the device"),
        (ORIN | _trt("10.3.0") | {"gpu": ""}, "no NVIDIA GPU", "NVIDIA GPU"),
    ],
)
def test_what_is_missing_is_said(facts: dict[str, Any], detail: str, fix: str) -> None:
    """With what helps."""
    method = access_of(facts, "tensorrt")
    assert not method.built and not method.run and detail in method.detail and fix in method.fix


DESKTOP: dict[str, Any] = {
    "gpu": "NVIDIA GeForce RTX 4090", "compute_capability": "SM89", "machine": "x86_64",
    "packages": {"numpy": "2.1.0", "tensorrt_rtx": "1.7.1"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "trt", "cuda"),
    [
        ("tensorrt", _trt("10.13.3"), "cuda_runtime"),
        ("tensorrt", _trt("", "10.13.3"), "cuda"),
        ("tensorrt_rtx", _trt(), "cuda_runtime"),
    ],
)
def test_a_desktops_driver_must_run_its_cuda(backend: str, trt: dict[str, Any], cuda: str) -> None:
    """Engines could not be built there, which is better known before anything is trained."""
    for driver, version, good in (
        ("550.54.14", "13.0", False), ("580.65.06", "13.0", True), ("550.54.14", "12.6", True),
        ("", "13.0", True), ("550.54.14", "", True), ("odd", "odd", True),
    ):  # fmt: skip
        road = access_of(DESKTOP | trt | {"driver": driver, cuda: version}, backend)
        assert road.built is road.run is good
        if not good:
            assert "550.54.14 is too old for CUDA 13.0, which needs R580" in road.detail
            assert "on the device" in road.detail and "nvidia:580" in road.fix


def test_without_numpy_an_engine_can_be_built_and_not_run() -> None:
    """Images cannot be fed to it."""
    method = access_of(ORIN | _trt("10.3.0") | {"packages": {}}, "tensorrt")
    assert method.built and not method.run and "python3-numpy" in method.fix


def test_other_back_ends() -> None:
    """By the packages of the device's Python; TensorRT-RTX builds without a GPU."""
    assert access_of({"packages": {"onnxruntime": "1.23.2"}}, "onnxruntime").run
    missing = access_of(
        {"packages": {}, "python": "3.10.12", "executable": "/usr/bin/python3"}, "onnxruntime"
    )
    assert not missing.built and "remote.python" in missing.fix and "/usr/bin/python3" in missing.detail
    rtx = access_of({"packages": {"tensorrt_rtx": "1.7.1"}}, "tensorrt_rtx")
    assert rtx.built and not rtx.run
    old = access_of({"packages": {"tensorrt_rtx": "1.2.0"}, "gpu": "RTX"}, "tensorrt_rtx")
    assert not old.built and "1.2.0 is too old" in old.detail


def test_an_engines_key_has_what_binds_it() -> None:
    """Version, GPU, capability, L4T, board, architecture: another of any is another engine."""
    facts = ORIN | _trt("10.3.0")
    assert environment_of(facts, "tensorrt") == {
        "tensorrt": "10.3.0", "gpu": "Orin", "compute_capability": "SM87", "l4t": "36.4.3",
        "board": "NVIDIA Jetson Orin Nano Developer Kit", "architecture": "aarch64",
    }  # fmt: skip
    assert timing_cache(facts, "10.3.0") == "tensorrt-tegra234-SM87-10.3.0.timing"
    assert (
        describe(facts)
        == "NVIDIA Jetson Orin Nano Developer Kit, JetPack 6.2 (L4T 36.4.3), Ubuntu 22.04.5 LTS"
    )


def test_an_engine_of_this_machine_alone_is_not_built_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects who adds an engine: without an access method it is missing there, with a line that says so."""
    kind = replace(ENGINE_KINDS["onnxruntime"], name="toy", label="Toy")
    monkeypatch.setitem(ENGINE_KINDS, "toy", kind)
    method = access_of(ORIN, "toy")
    assert not method.built and not method.run
    assert "Toy engines are built and run on this machine only" in method.detail and "local" in method.fix
    assert environment_of(ORIN, "toy")["toy"] == "none"
