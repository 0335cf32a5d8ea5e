"""Protects: an option of TensorRT's builder is honoured or refused, on every way of building and in every version.

What is honoured is seen in what the library (a stand-in) or trtexec is told.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from export.engines.options import TensorRTOptions
from export.engines.tensorrt import TensorRTBackend
from export.engines.trt_options import HONOURED, asked
from export.engines.trt_refusals import Place, refusals
from export.errors import BuildError
from export.runtime import cudart
from pipeline.devices.agent import tensorrt_api
from pipeline.places import access
from pipeline.results.rows.engines import Tensor
from tests.export.engines.stand_ins import Cuda, tensorrt
from tests.pipeline.devices.tiny import IMAGE, classifier

VERSIONS = ["8.5.2", "8.6.2", "10.3.0", "10.13.3.9", "11.4.1"]
# Of each option something that the library does not do by itself.
OTHER: dict[str, Any] = {
    "strong_typing": False, "optimization_level": 5, "workspace_mb": 64, "tactic_dram_mb": 128,
    "version_compatible": True, "hardware_compatibility": "ampere_plus", "strip_weights": True,
    "timing_caches": Path("caches"),
}  # fmt: skip


def _facts(way: str, version: str) -> dict[str, Any]:
    trt = {
        "python": version if way == "python" else "",
        "trtexec": "/usr/src/tensorrt/bin/trtexec" if way == "trtexec" else "",
        "trtexec_version": version if way == "trtexec" else "",
    }
    return {"tensorrt": trt, "packages": {"numpy": "1.26"}, "gpu": "Test GPU", "compute_capability": "SM89"}


def _told(trt: Any, engine: Path) -> Any:
    config = trt._state.configs[-1]
    typed = json.loads(engine.read_bytes())["typed"]
    level = config.builder_optimization_level, int(config.hardware_compatibility_level)
    return sorted(config._flags), config._pools, level, config._cache is not None, typed


def _through(
    way: str, version: str, options: dict[str, Any], onnx: Path, folder: Path, patch: pytest.MonkeyPatch
) -> Any:
    """What is told to the builder."""
    if way == "trtexec":
        return _request(way, version, options)["trtexec"]["build"]
    gpu = Cuda()
    trt = tensorrt(gpu, version)
    patch.setattr(cudart, "loaded", gpu.runtime)
    patch.setitem(sys.modules, "tensorrt", trt)
    engine = folder / "a.engine"
    if way == "local":
        TensorRTBackend("tensorrt").build(onnx, engine, tensorrt=TensorRTOptions(**options))
    else:
        request = _request(way, version, options)
        tensorrt_api.build_engine(str(onnx), str(engine), request, "", lambda event: None)
    return _told(trt, engine)


def _check(way: str, version: str, options: dict[str, Any]) -> None:
    for refusal in refusals(
        access.place_of(_facts(way, version), "tensorrt"), TensorRTOptions(**options), []
    ):
        raise BuildError(refusal.what, refusal.fix)


def _request(way: str, version: str, options: dict[str, Any]) -> dict[str, Any]:
    _check(way, version, options)
    return access.build_request(
        _facts(way, version), "tensorrt", name="a", engine_file="a.engine", onnx="0", precision="fp16",
        batch_sizes=[1], options=options, source=Tensor(name="image", dtype="uint8", shape=(1, *IMAGE)),
        weak_flags=("FP16",),
    )  # fmt: skip


def test_no_option_is_forgotten_here() -> None:
    """A new field of `TensorRTOptions` is walked, too."""
    assert set(OTHER) == {field.name for field in fields(TensorRTOptions)}
    for way, honoured in HONOURED.items():
        assert honoured <= set(OTHER), way
    for name, value in OTHER.items():
        assert asked(TensorRTOptions(**{name: value})) == {name}
    assert not asked(TensorRTOptions(optimization_level=3)), (
        "what the library does by itself is not asked for"
    )


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", HONOURED)
def test_an_option_is_honoured_or_refused(
    way: str, version: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never ignored; on a device timing caches are the agent's own, and before 10.0 all typing is weak."""
    monkeypatch.chdir(tmp_path)
    onnx = classifier(tmp_path / "a.onnx", opset=17)
    before = _through(way, version, {}, onnx, tmp_path, monkeypatch)
    try:
        after = _through(way, version, {name: OTHER[name]}, onnx, tmp_path, monkeypatch)
    except BuildError as error:
        assert name in error.what + error.fix or "strong" in error.what or "strip" in error.what
        assert error.fix
        return
    assert name in HONOURED[way]  # type: ignore[index]
    same_anyway = (name == "strong_typing" and version < "9" and version[0] == "8") or (
        name == "timing_caches" and way != "local"
    )
    assert (after == before) is same_anyway, (before, after)


@pytest.mark.parametrize(
    ("way", "version", "options", "says", "fix"),
    [
        ("python", "11.4.1", {"strong_typing": False}, "11.4.1 on a device is always strongly typed", "true"),
        ("trtexec", "11.4.1", {"strong_typing": False}, "through trtexec is always strongly typed", "true"),
        ("trtexec", "10.3.0", {"tactic_dram_mb": 64}, "does not take tactic_dram_mb: 64", "python3-libnvinfer"),
        ("trtexec", "8.5.2", {"tactic_dram_mb": 64}, "does not take tactic_dram_mb: 64", "leave tactic_dram_mb out"),
        ("python", "8.6.2", {"tactic_dram_mb": 64}, "no limit on tactic memory", "leave tactic_dram_mb out"),
        ("trtexec", "8.5.2", {"optimization_level": 5}, "no optimization levels", "leave optimization_level out"),
        ("python", "10.3.0", {"strip_weights": True}, "does not take strip_weights", "leave strip_weights out"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(
    way: str, version: str, options: dict[str, Any], says: str, fix: str
) -> None:
    with pytest.raises(BuildError, match=says) as caught:
        _check(way, version, options)
    assert fix in caught.value.fix


def test_the_configs_own_defaults_are_never_refused() -> None:
    """The target's section gives each key, most of them with what the library does anyway."""
    from pipeline.config.targets import Target
    from pipeline.places.builder import BUILDER_KEYS

    section = Target(engine="tensorrt")
    keys = {field.name for field in fields(TensorRTOptions)} & set(BUILDER_KEYS["tensorrt"])
    given = {key: getattr(section, key) for key in keys}
    for way, version in (*(("trtexec", v) for v in VERSIONS), *(("python", v) for v in VERSIONS)):
        _check(way, version, given)


@pytest.mark.parametrize("name", OTHER)
def test_tensorrt_rtx_has_what_it_takes(name: str) -> None:
    """It has neither levels nor weak typing nor compatible engines; a timing cache does nothing there by design."""
    place = Place("tensorrt_rtx", "1.7.1")
    refused = bool(refusals(place, TensorRTOptions(**{name: OTHER[name]}), []))
    taken = {"workspace_mb", "tactic_dram_mb", "strip_weights", "timing_caches"}
    assert refused is (name not in taken)
