"""Protects: TensorRT-RTX engines are really built ahead of time, in every precision, and never pretended to
run.

The library is real; only what needs a GPU is left out where there is none.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.engines import BACKENDS
from export.engines.options import TensorRTOptions
from export.engines.tensorrt import TensorRTBackend
from export.engines.trt_versions import bindings_missing, dialect
from export.errors import BackendMissing, BuildError, EngineError
from export.onnx import fix_batch
from export.runtime import cudart
from export.runtime.facts import Tensor
from export.runtime.sampling import Limits

rtx = BACKENDS["tensorrt_rtx"]
needs_rtx = pytest.mark.skipif(not rtx.availability().built, reason=rtx.availability().detail)
no_gpu = pytest.mark.skipif(cudart.probe()[0] > 0, reason="there is a GPU")
needs_gpu = pytest.mark.skipif(cudart.probe()[0] == 0, reason=cudart.probe()[1] or "there is a GPU")


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_precision_builds_with_a_uint8_image_input(files: Any, tmp_path: Path, precision: str) -> None:
    steps: list[tuple[int, int, str]] = []
    out = tmp_path / "m.engine"
    info = rtx.build(
        getattr(files, precision),
        out,
        compute_capabilities=["SM86"],
        tensorrt=TensorRTOptions(workspace_mb=64),
        progress=lambda *step: steps.append(step),
    )
    assert info.compute_capability == ("SM86",) and info.state == "built" and info.layers > 10
    assert info.inputs == (Tensor("image", "uint8", (1, 32, 32, 3)),)
    assert info.outputs == (Tensor("logits", "float32", (1, 8)),)
    assert out.stat().st_size == info.bytes > 1000
    assert steps and all(0 <= done <= total for done, total, _ in steps) and steps[-1][0] == steps[-1][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "m.engine",
        "m.engine.json",
        "m.engine.layers.json",
    ]


@needs_rtx
def test_builds_repeat_byte_for_byte(files: Any, tmp_path: Path) -> None:
    infos = [rtx.build(files.fp16, tmp_path / f"{i}.engine", compute_capabilities=["SM86"]) for i in (0, 1)]
    assert infos[0].sha256 == infos[1].sha256


@needs_rtx
def test_batches_and_targets(files: Any, tmp_path: Path) -> None:
    info = rtx.build(
        files.fp16, tmp_path / "m.engine", batch_sizes=(4, 1), compute_capabilities=["8.6", "sm120", "SM86"]
    )
    assert info.batch_sizes == (1, 4) and info.compute_capability == ("SM86", "SM120")
    assert info.inputs[0].shape == ("batch", 32, 32, 3)


@needs_rtx
def test_build_errors_say_what_and_how_to_go_on(files: Any, tmp_path: Path) -> None:
    out = tmp_path / "x.engine"
    with pytest.raises(BuildError, match=r"QuantizeLinear.*zero point.*made for TensorRT"):
        rtx.build(files.int8_cpu, out, compute_capabilities=["SM86"])
    with pytest.raises(BuildError, match=r"FP32 GEMM is not supported.*FP16 file"):
        rtx.build(files.fp32, out, compute_capabilities=["SM75"])
    with pytest.raises(BuildError, match=r"unknown compute capability SM12.*SM86"):
        rtx.build(files.fp16, out, compute_capabilities=["SM12"])
    with pytest.raises(BuildError, match="fixed batch of 1"):
        rtx.build(fix_batch(files.fp16, tmp_path / "one.onnx", 1), out, batch_sizes=(1, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.onnx"]


@needs_rtx
def test_an_interrupt_in_the_progress_callback_stops_the_build(files: Any, tmp_path: Path) -> None:
    def stop(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rtx.build(files.fp16, tmp_path / "x.engine", compute_capabilities=["SM86"], progress=stop)
    assert not list(tmp_path.iterdir())


@needs_rtx
@no_gpu
def test_without_a_gpu_engines_are_built_not_run(files: Any, tmp_path: Path) -> None:
    here = rtx.availability()
    assert here.built and not here.run and "no CUDA device" in here.detail and here.fix
    rtx.build(files.fp16, tmp_path / "m.engine", compute_capabilities=["SM86"])
    with pytest.raises(EngineError, match="built, not run: no CUDA device"):
        rtx.load(tmp_path / "m.engine")


@needs_rtx
def test_foreign_engines_are_refused(files: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.engine"
    rtx.build(files.fp16, path, compute_capabilities=["SM86"])
    sidecar = tmp_path / "m.engine.json"
    facts = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**facts, "versions": {"tensorrt_rtx": "1.0.0"}}))
    with pytest.raises(
        EngineError, match=r"built by tensorrt_rtx 1\.0\.0.*same version only.*build it again"
    ):
        rtx.load(path)
    sidecar.write_text(json.dumps({**facts, "backend": "tensorrt"}))
    with pytest.raises(EngineError, match="built by tensorrt, not by tensorrt_rtx"):
        rtx.load(path)
    sidecar.write_text(json.dumps(facts))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(EngineError, match="SHA-256 differs"):
        rtx.load(path)
    sidecar.unlink()
    with pytest.raises(EngineError, match="origin is unknown"):
        rtx.load(path)
    path.unlink()
    with pytest.raises(EngineError, match="no engine file"):
        rtx.load(path)


@needs_rtx
@needs_gpu
def test_engines_agree_with_onnx_runtime_on_a_gpu(files: Any, tmp_path: Path) -> None:
    major, minor = cudart.loaded().compute_capability()
    path = tmp_path / "m.engine"
    rtx.build(files.fp16, path, batch_sizes=(1, 4), compute_capabilities=[f"SM{major}{minor}"])
    engine = rtx.load(path)
    expected = BACKENDS["onnxruntime"].load(files.fp32).infer(files.images[:9])
    np.testing.assert_allclose(engine.infer(files.images[:9]), expected, atol=0.05 * np.abs(expected).max())
    samples = engine.time(files.images[:4], Limits(min_samples=50), boundary="engine+copies")
    parts = samples.arrays["h2d"] + samples.arrays["compute"] + samples.arrays["d2h"]
    np.testing.assert_allclose(samples.latency, parts)
    engine.close()


def test_an_absent_library_is_a_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("export.runtime.trt_library.importlib.import_module", absent)
    here = TensorRTBackend("tensorrt").availability()
    assert (here.built, here.run, here.detail) == (False, False, "tensorrt is not installed")
    assert "pip install tensorrt" in here.fix
    with pytest.raises(BackendMissing, match="pip install tensorrt_rtx_cu13"):
        TensorRTBackend("tensorrt_rtx").build(tmp_path / "a.onnx", tmp_path / "a.engine")


def test_tensorrt_refuses_what_its_parser_does_not_document(
    files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the one clear message: it comes before the parser's, for the version that is installed."""
    backend = TensorRTBackend("tensorrt")
    library = SimpleNamespace(__version__="10.3.0.26")
    monkeypatch.setattr(backend, "library", lambda: (library, dialect("tensorrt", "10.3.0.26")))
    monkeypatch.setattr("export.runtime.cudart.probe", lambda: (1, ""))
    with pytest.raises(
        BuildError, match=r"QuantizeLinear at node \S+ is not supported by TensorRT 10\.3: .*UINT8"
    ):
        backend.build(files.int8_cpu, tmp_path / "x.engine")
    assert not list(tmp_path.iterdir())


@needs_rtx
def test_the_rtx_bindings_have_every_name_that_is_called() -> None:
    import tensorrt_rtx

    assert bindings_missing(tensorrt_rtx, dialect("tensorrt_rtx", tensorrt_rtx.__version__)) == []


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is None, reason="tensorrt is not installed")
def test_the_tensorrt_bindings_have_every_name_that_is_called() -> None:
    import tensorrt

    assert bindings_missing(tensorrt, dialect("tensorrt", tensorrt.__version__)) == []


@needs_rtx
def test_an_engine_can_be_moved_with_its_sidecar(files: Any, tmp_path: Path) -> None:
    """Nothing in the pair may hold the folder that it was built in."""
    rtx.build(files.fp16, tmp_path / "a.engine", compute_capabilities=["SM86"])
    for suffix in ("", ".json"):
        shutil.move(tmp_path / f"a.engine{suffix}", tmp_path / f"b.engine{suffix}")
        assert str(tmp_path).encode() not in (tmp_path / f"b.engine{suffix}").read_bytes()
    with pytest.raises(EngineError) if cudart.probe()[0] == 0 else pytest.raises(SystemExit) as caught:
        rtx.load(tmp_path / "b.engine")
        raise SystemExit
    assert "SHA-256" not in str(caught.value)
