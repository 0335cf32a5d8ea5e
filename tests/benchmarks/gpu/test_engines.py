"""The checks of engines on a GPU: every one runs here against stand-ins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import engines
from benchmarks.gpu.checks import Options, run_check
from export.runtime import cudart
from tests.export.engines import stand_ins
from tests.export.engines.stand_ins import Cuda, tensorrt

NOT_APPLICABLE = {"10.3.0": set(), "11.4.0.106": {"weak_typing"}}


def run(folder: Path, *names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What checks answer, by name, and the facts about the machine."""
    rig, facts = engines.prepare("tensorrt", Options("cuda", True, folder))
    return {name: run_check(engines.CHECKS[name], rig) for name in names or engines.CHECKS}, facts


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(cudart, "loaded", made.runtime)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt(made))
    return made


def stand_in_trtexec(path: Path, compute_ms: float) -> str:
    """A program that writes the times that trtexec writes, without measuring anything."""
    rows = json.dumps([{"computeMs": compute_ms}] * 5)
    path.write_text(
        f"#!{sys.executable}\nimport sys\nassert '--noDataTransfers' in sys.argv\n"
        "(out,) = [a.split('=')[1] for a in sys.argv if a.startswith('--exportTimes')]\n"
        f"open(out, 'w').write({rows!r})\n"
    )
    path.chmod(0o755)
    return str(path)


def test_every_check_runs(gpu: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects an hour on a rented machine: no check fails because a name or logic is missing."""
    program = stand_in_trtexec(tmp_path / "trtexec", 2.1)
    monkeypatch.setattr(engines, "trtexec_path", lambda: program)
    monkeypatch.setattr(
        stand_ins, "KERNEL_SECONDS", 0.02
    )  # what a timing cache saves, well above this machine's noise
    found, facts = run(tmp_path)
    states = {name: (check["state"], check["why"]) for name, check in found.items()}
    assert states.pop("bf16") == (
        "not applicable",
        "tensorrt 10.13.3.9 reads no BF16 files: they need opset 22",
    )
    # The stand-in has what is called here, not all that TensorRT has.
    assert states.pop("names")[0] == "failed"
    assert set(states.values()) == {("passed", "")}, states
    assert set(states) | {"names", "bf16"} == set(engines.CHECKS)
    assert facts == {
        "tensorrt": {
            "versions": {"tensorrt": "10.13.3.9"},
            "device": {"name": "Test GPU", "compute_capability": "SM89"},
        }
    }
    timed = found["timing"]["found"]["int8, batch 4, engine+copies"]
    assert timed["median"] == 4.0 and timed["median_of_parts_ms"]["h2d"] == 1.0
    assert gpu.leaks() == {}


@pytest.mark.parametrize(
    ("check", "breaks"),
    [
        ("parity", lambda rig: rig.files.update(fp16=rig.files["fp32"])),
        ("timing_cache", lambda rig: setattr(type(rig), "build", _without_cache(type(rig).build))),
        ("graph", lambda rig: None),
        ("trtexec", lambda rig: None),
    ],
)
def test_checks_can_fail(
    gpu: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, breaks: Any
) -> None:
    """A check that always passes checks nothing."""
    original, build = engines.CHECKS[check], engines.Rig.build
    slow = stand_in_trtexec(tmp_path / "trtexec", 3.0)
    monkeypatch.setattr(engines, "trtexec_path", lambda: slow)

    def broken(rig: Any) -> Any:
        rig.engine("fp16").close()
        breaks(rig)
        gpu.capturable = check != "graph"
        if check == "parity":  # the reference is another network than the engine's
            import onnx

            model = onnx.load(rig.files["fp32"])
            model.graph.initializer[-2].CopyFrom(
                onnx.numpy_helper.from_array(
                    -onnx.numpy_helper.to_array(model.graph.initializer[-2]), model.graph.initializer[-2].name
                )
            )
            onnx.save(model, rig.files["fp32"])
        return original(rig)

    monkeypatch.setitem(engines.CHECKS, check, broken)
    try:
        found, _ = run(tmp_path, check)
    finally:
        engines.Rig.build = build  # type: ignore[method-assign]
    assert found[check]["state"] == "failed" and found[check]["why"]


def _without_cache(build: Any) -> Any:
    def wrapped(rig: Any, name: str, *arguments: Any, timing_caches: Any = None, **options: Any) -> Any:
        return build(rig, name, *arguments, **options)

    return wrapped


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_what_a_version_does_not_have_is_not_applicable(
    gpu: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt(gpu, version))
    found, _ = run(tmp_path, "weak_typing", "hardware_compatible", "version_compatible")
    states = {name for name, check in found.items() if check["state"] == "not applicable"}
    assert states == NOT_APPLICABLE[version]
    assert "failed" not in {check["state"] for check in found.values()}


def test_a_process_that_follows_finds_the_engines(gpu: Cuda, tmp_path: Path) -> None:
    """Protects minutes of building after a check that broke its process."""
    run(tmp_path, "build")
    before = (tmp_path / "fp16.engine").stat().st_mtime_ns
    found, _ = run(tmp_path, "profiles")
    assert found["profiles"]["state"] == "passed"
    assert (tmp_path / "fp16.engine").stat().st_mtime_ns == before
