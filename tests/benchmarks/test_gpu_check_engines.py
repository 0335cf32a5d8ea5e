"""The engines' script for a GPU machine: every check runs here against stand-ins, and without them it says so."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export.runtime import cudart
from tests.export.engines import stand_ins
from tests.export.engines.stand_ins import Cuda, tensorrt

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check_engines.py"
NOT_APPLICABLE = {"10.3.0": set(), "11.4.0.106": {"weak_typing"}}


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_check_engines", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check_engines"] = module
    spec.loader.exec_module(module)
    return module


def run(script: Any, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    code = script.main(["--out", str(out), "--backends", "tensorrt", "--tiny", "--seconds", "0.05", *more])
    return code, json.loads((out / "engines_tensorrt.json").read_text())


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


def test_every_check_runs(script: Any, gpu: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects an hour on a rented machine: no check fails because a name or logic is missing."""
    program = stand_in_trtexec(tmp_path / "trtexec", 2.1)
    monkeypatch.setattr(script, "trtexec_path", lambda: program)
    monkeypatch.setattr(
        stand_ins, "KERNEL_SECONDS", 0.02
    )  # what a timing cache saves, well above this machine's noise
    code, found = run(script, tmp_path)
    states = {name: (check["state"], check["why"]) for name, check in found["checks"].items()}
    assert states.pop("bf16") == (
        "not applicable",
        "tensorrt 10.13.3.9 reads no BF16 files: they need opset 22",
    )
    states.pop("names")  # the stand-in has what is called here, not all that TensorRT has
    assert set(states.values()) == {("passed", "")}, states
    assert set(states) | {"names", "bf16"} == set(script.CHECKS)
    assert found["device"] == {"name": "Test GPU", "compute_capability": "SM89"}
    assert found["versions"] == {"tensorrt": "10.13.3.9"} and found["machine"]["cpu"]
    timed = found["checks"]["timing"]["found"]["int8, batch 4, engine+copies"]
    assert timed["median"] == 4.0 and timed["median_of_parts_ms"]["h2d"] == 1.0
    assert code == 1  # because of `names`
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
    script: Any, gpu: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, breaks: Any
) -> None:
    """A check that always passes checks nothing."""
    original, build = script.CHECKS[check], script.Rig.build
    slow = stand_in_trtexec(tmp_path / "trtexec", 3.0)
    monkeypatch.setattr(script, "trtexec_path", lambda: slow)

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

    monkeypatch.setitem(script.CHECKS, check, broken)
    try:
        code, found = run(script, tmp_path, "--checks", check)
    finally:
        script.Rig.build = build
    assert code == 1 and found["state"] == "failed" and found["failed"] == [check]
    assert found["checks"][check]["state"] == "failed" and found["checks"][check]["why"]


def _without_cache(build: Any) -> Any:
    def wrapped(rig: Any, name: str, *arguments: Any, timing_caches: Any = None, **options: Any) -> Any:
        return build(rig, name, *arguments, **options)

    return wrapped


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_what_a_version_does_not_have_is_not_applicable(
    script: Any, gpu: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt(gpu, version))
    code, found = run(
        script, tmp_path, "--checks", "weak_typing", "hardware_compatible", "version_compatible"
    )
    states = {name for name, check in found["checks"].items() if check["state"] == "not applicable"}
    assert code == 0 and states == NOT_APPLICABLE[version]


@pytest.mark.skipif(cudart.probe()[0] > 0, reason="there is a GPU")
def test_without_a_gpu_it_says_that_nothing_was_run(tmp_path: Path) -> None:
    """As `make gpu-check` runs it: exit 4, and a JSON file that claims nothing."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path)], capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert done.stdout.count("no GPU: these checks were not run") == 2
    for name in ("tensorrt", "tensorrt_rtx"):
        found = json.loads((tmp_path / f"engines_{name}.json").read_text())
        assert found["state"] == "not run" and found["checks"] == {} and "parity" in found["not_run"]
