"""Protects: a device with Python 3.8, its numpy and its ONNX Runtime does what this machine does, over a real sshd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.engines import BACKENDS
from export.runtime.bundle.preprocess import Preprocessing
from pipeline.devices.agent.requests import BuildRequest, EngineSpec, InferRequest, TimeRequest
from pipeline.devices.results import BUILD, INFER, TIME, npy_bytes, read_npy
from pipeline.devices.session import connect
from tests.pipeline.devices.sshd import Sshd
from tests.pipeline.devices.tiny import CLASSES, IMAGE, classifier, images

pytestmark = pytest.mark.slow


def test_it_builds_scores_and_times(sshd: Sshd, old_python: Path, tmp_path: Path) -> None:
    """Without Pillow, so that decoding is missing with its reason and all else is there."""
    onnx, stored = classifier(tmp_path / "a.onnx", batch=None, opset=17), images(9)
    (tmp_path / "images").write_bytes(stored.tobytes())
    with connect(sshd.device(python=str(old_python))) as session:
        assert session.facts()["python"].startswith("3.")
        file, blob = session.put(onnx), session.put(tmp_path / "images")
        how = {"id": "edge/fp32", "backend": "onnxruntime", "access": "onnxruntime", "threads": 1}
        build = BuildRequest(**how, onnx=file, name="fp32.onnx", batch_sizes=[1, 4])  # type: ignore[typeddict-item]
        assert session.run(BUILD, build, detached=True).result["classes"] == CLASSES
        engine = EngineSpec(**how, file=file)  # type: ignore[typeddict-item]
        parts, image = [{"blob": blob, "count": len(stored)}], list(IMAGE)
        infer: InferRequest = {
            "engine": engine, "parts": parts, "image": image, "transform": None, "repeat": 0, "discard": False,
        }  # type: ignore[typeddict-item] # fmt: skip
        done = session.run(INFER, infer, detached=True)
        shape = (len(stored), CLASSES)
        most = npy_bytes(shape, "float32")
        path = session.fetch(done.job, done.result["logits"], tmp_path / "logits.npy", most)
        logits = read_npy(path.read_bytes(), shape, "float32")
        cases = [
            {"name": f"a|{batch}|{boundary}", "engine": "edge/fp32", "batch": batch, "boundary": boundary}
            for batch, boundary in ((1, "engine"), (4, "engine+copies"), (1, "image_to_class"))
        ]
        timing: TimeRequest = {
            "engines": [engine], "cases": cases, "parts": parts, "image": image, "transform": None, "encoded": [],
            "preprocessing": Preprocessing(8, 8).to_json(), "warmup_s": 0.01, "min_samples": 30, "min_seconds": 0.0,
            "max_seconds": 20.0, "rounds": 2, "max_load": 0.15, "agree": 0.0,
            "sustained_s": 0.3, "energy_s": 0.0, "memory": True,
        }  # type: ignore[typeddict-item] # fmt: skip
        timed = session.run(TIME, timing, detached=True).result
    expected = BACKENDS["onnxruntime"].load(onnx, threads=1).infer(stored)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert {name: sum(case["rounds"]) >= 30 for name, case in timed["cases"].items()} == {
        "a|1|engine": True,
        "a|4|engine+copies": True,
    }
    assert timed["sustained"]["edge/fp32"]["queries"] > 0 and "python3-pil" in timed["missing"][0]
