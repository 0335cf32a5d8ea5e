"""Protects: the ONNX Runtime back end runs what it says it runs, at any image count, and says why it
cannot."""

from __future__ import annotations

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.engines import BACKENDS
from export.errors import BuildError, EngineError, ExportError
from export.onnx import fix_batch
from export.runtime.facts import Tensor
from export.runtime.sampling import Limits

ort = BACKENDS["onnxruntime"]


def test_availability_names_the_version() -> None:
    here = ort.availability()
    assert here.built and here.run and here.versions["onnxruntime"] in here.detail


def test_build_fixes_one_batch_size_and_describes_itself(files: Any, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    out = tmp_path / "engine.onnx"
    info = ort.build(files.fp16, out, batch_sizes=(1,), progress=lambda *step: steps.append(step))
    assert info.state == "built" and info.batch_sizes == (1,) and info.bytes == out.stat().st_size
    assert info.inputs == (Tensor("image", "uint8", (1, 32, 32, 3)),)
    assert steps[-1][:2] == (2, 2)
    sidecar = json.loads((tmp_path / "engine.onnx.json").read_text())
    assert (
        sidecar["sha256"] == info.sha256
        and "build_seconds" not in sidecar
        and str(tmp_path) not in str(sidecar)
    )
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    ort.build(files.fp16, out, batch_sizes=(1,))
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_any_number_of_images_through_a_static_batch(files: Any, tmp_path: Path) -> None:
    expected = ort.load(files.fp32).infer(files.images[:7])
    for size in (1, 3):
        ort.build(files.fp32, tmp_path / "e.onnx", batch_sizes=(size,))
        engine = ort.load(tmp_path / "e.onnx", threads=1)
        assert engine.batch_sizes == (size,) and engine.facts["providers"] == ["CPUExecutionProvider"]
        logits = engine.infer(files.images[:7])
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            engine.infer(files.images[:7])


@pytest.mark.parametrize("boundary", ["engine", "engine+copies"])
def test_timing_takes_the_samples_that_were_asked_for(files: Any, boundary: Any) -> None:
    engine = ort.load(files.fp32, threads=1)
    samples = engine.time(files.images[:2], Limits(0.0, 20, 0.0, 60.0), boundary=boundary)
    assert samples.boundary == boundary and samples.batch == 2
    assert (
        samples.latency.shape == (20,) and samples.latency.dtype == np.float64 and (samples.latency > 0).all()
    )
    assert samples.wall_seconds * 1e3 >= samples.latency.sum()
    with pytest.raises(EngineError, match="unknown timing boundary"):
        engine.time(files.images[:2], Limits(max_seconds=0.1), boundary="gpu")  # type: ignore[arg-type]


def test_wrong_input_is_refused(files: Any, tmp_path: Path) -> None:
    engine = ort.load(fix_batch(files.fp32, tmp_path / "one.onnx", 1))
    with pytest.raises(EngineError, match=r"takes uint8 images \[32, 32, 3\].*float32"):
        engine.infer(files.images[:1].astype(np.float32))
    with pytest.raises(EngineError, match="batch 2 is not among"):
        engine.time(files.images[:2], Limits())
    with pytest.raises(EngineError, match="no images"):
        engine.infer(files.images[:0])


def test_missing_device_is_an_error_not_a_silent_fall_back(
    files: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("export.runtime.cudart.probe", lambda: (0, ""))
    with pytest.raises(EngineError, match="CUDA"):
        ort.load(files.fp32, provider="CUDAExecutionProvider")
    with pytest.raises(EngineError, match="no MagicProvider here"):
        ort.load(files.fp32, provider="MagicProvider")
    assert capfd.readouterr() == ("", "")


def test_build_failures(files: Any, tmp_path: Path) -> None:
    fixed = fix_batch(files.fp32, tmp_path / "one.onnx", 1)
    for sizes in ((4,), (1, 4)):
        with pytest.raises(BuildError, match="fixed batch of 1"):
            ort.build(fixed, tmp_path / "x.onnx", batch_sizes=sizes)
    with pytest.raises(ExportError, match="no ONNX file"):
        ort.build(tmp_path / "absent.onnx", tmp_path / "x.onnx")
    with pytest.raises(EngineError, match="no engine file"):
        ort.load(tmp_path / "absent.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(EngineError, match="cannot be read as ONNX"):
        ort.load(tmp_path / "junk.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_queries_share_the_session_and_outlive_their_batch(files: Any) -> None:
    """Each has its own memory: several may run at once, and the caller's array may go away."""
    engine = ort.load(files.fp32, threads=1)
    for boundary in ("engine", "engine+copies"):
        batch = files.images[:2].copy()
        queries = engine.queries(batch, boundary=boundary, streams=3)
        del batch
        gc.collect()
        assert len(queries) == 3
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda query: query(), queries * 20)) == [None] * 60
    with pytest.raises(EngineError, match="unknown timing boundary"):
        engine.queries(files.images[:1], boundary="gpu")  # type: ignore[arg-type]


def test_cores_are_those_of_the_process_and_options_are_told(files: Any, monkeypatch: Any) -> None:
    """In a container or under taskset the machine has more cores than the process."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 3, 5})
    engine = ort.load(files.fp32, spinning=False)
    assert (engine.facts["threads"], engine.facts["spinning"]) == (3, False)
    assert ort.load(files.fp32, threads=1).facts["threads"] == 1
