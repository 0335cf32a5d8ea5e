"""The trtexec road, against a stand-in that replays trtexec's documentation. No TensorRT has run here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.engines import BACKENDS
from pipeline.devices import roads
from pipeline.devices.agent import trtexec
from pipeline.devices.agent.errors import JobError
from tests.pipeline.devices import replay_trtexec
from tests.pipeline.devices.tiny import IMAGE, Place, classifier, images

VERSIONS = ["8.5.2", "8.6.2", "10.3.0", "11.4.1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    job = tmp_path / "job"
    job.mkdir()
    monkeypatch.chdir(job)
    return Place(tmp_path)


def _program(folder: Path, version: str) -> str:
    path = folder / "trtexec"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {replay_trtexec.__file__} {version} "$@"\n')
    path.chmod(0o755)
    return str(path)


def _facts(program: str, version: str) -> dict[str, Any]:
    trt = {
        "python": "",
        "trtexec": program,
        "trtexec_version": version,
        "library": version,
        "version": version,
    }
    return {
        "tensorrt": trt, "packages": {"numpy": "1.26"}, "gpu": "Orin", "soc": "tegra234", "compute_capability": "SM87",
        "machine": "aarch64",
    }  # fmt: skip


def _request(facts: dict[str, Any], place: Place, onnx: Path, **changes: Any) -> dict[str, Any]:
    given = {
        "name": "orin/int8", "engine_file": "int8.engine", "onnx": place.put(onnx), "precision": "int8",
        "source": {"name": "image", "dtype": "uint8", "shape": [1, *IMAGE]}, "batch_sizes": [1], "options": {},
    }  # fmt: skip
    return roads.build_request(facts, "tensorrt", **(given | changes))


def _row(place: Place, result: dict[str, Any], sizes: list[int] | None = None) -> dict[str, Any]:
    return {
        "id": "orin/int8", "backend": "tensorrt", "batch_sizes": sizes or [1],
        "inputs": [{"name": "image", "dtype": "uint8", "shape": [1 if not sizes else "batch", *IMAGE]}],
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_build_score_and_time(version: str, place: Place, tmp_path: Path) -> None:
    """Only options that the version knows are used; logits come back to six digits, times as trtexec wrote them."""
    facts = _facts(_program(tmp_path, version), version)
    assert trtexec.probe(facts["tensorrt"]["trtexec"]) == version
    road = roads.road_of(facts, "tensorrt")
    if version == "8.5.2":
        assert road.built and road.name == "trtexec"
    onnx = classifier(tmp_path / "a.onnx")
    built = place.run(
        "build", _request(facts, place, onnx, options={"workspace_mb": 64, "optimization_level": 3})
    )
    assert built["versions"] == {"tensorrt": version} and built["timing_cache"] == "new"
    assert Path(built["file"]).stat().st_size == built["bytes"]
    steps = [event["progress"][0] for event in place.events if "progress" in event]
    assert steps == sorted(steps) and steps[-1] == 5
    assert {"log": "Detected layernorm nodes in FP16."} in place.events
    assert place.run("build", _request(facts, place, onnx))["timing_cache"] == "reused"

    stored = images(5)
    spec = roads.engine_spec(facts, _row(place, built), built["sha256"], {})
    request = {"engine": spec, "parts": [place.part(stored)], "image": IMAGE, "transform": None, "repeat": 2}
    scored = place.run("infer", request)
    expected = BACKENDS["onnxruntime"].load(onnx, threads=1).infer(stored)
    np.testing.assert_allclose(np.load(scored["logits"]), expected, rtol=1e-5)
    assert np.load(scored["repeated"]).shape == (2, 5)

    cases = [
        {"name": f"orin/int8|1|{b}", "engine": "orin/int8", "batch": 1, "boundary": b}
        for b in ("engine", "engine+copies", "image_to_class")
    ]
    timed = place.run("time", {
        "engines": [spec], "cases": cases, "parts": [place.part(stored)], "image": IMAGE, "transform": None,
        "encoded": [], "store_size": 8, "image_size": 8, "warmup_s": 0.2, "min_samples": 1000, "min_seconds": 0.0,
        "max_seconds": 10.0, "rounds": 4, "sustained_s": 2, "energy_s": 0,
    })  # fmt: skip
    values = np.fromfile(timed["samples"], "<f8")
    for boundary, latency in (("engine", 2.0), ("engine+copies", 2.375)):
        kinds = timed["index"][f"orin/int8|1|{boundary}"]
        at, count = kinds["latency"]
        assert count >= 1000 and np.median(values[at : at + count]) == latency
        assert sum(timed["cases"][f"orin/int8|1|{boundary}"]["rounds"]) == count
        assert any(note.startswith("trtexec ") for note in timed["cases"][f"orin/int8|1|{boundary}"]["notes"])
    assert "one image after the other" in timed["missing"][0]
    assert (
        timed["sustained"]["orin/int8"]["queries"] == 400
        and timed["index"]["sustained|orin/int8"]["at"][1] == 400
    )
    left = {p.name for p in Path().iterdir()}
    assert left <= {
        "int8.engine",
        "build.log",
        "trtexec.log",
        "logits.npy",
        "repeated.npy",
        "samples.f64",
        "golden.npy",
    }


def test_several_batch_sizes_get_one_profile(place: Place, tmp_path: Path) -> None:
    """Shapes are given for a dynamic engine, and only for one."""
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    onnx = classifier(tmp_path / "a.onnx", batch=None)
    source = {"name": "image", "dtype": "uint8", "shape": ["batch", *IMAGE]}
    request = _request(facts, place, onnx, batch_sizes=[1, 4], source=source)
    assert "--optShapes=image:1x8x8x3" in request["trtexec"]["build"]
    built = place.run("build", request)
    spec = roads.engine_spec(facts, _row(place, built, [1, 4]), built["sha256"], {})
    stored = images(6)
    scored = place.run(
        "infer", {"engine": spec, "parts": [place.part(stored)], "image": IMAGE, "transform": None}
    )
    assert np.load(scored["logits"]).shape == (6, 5)
    assert "--shapes=image:4x8x8x3" in Path("trtexec.log").read_text()


def test_failures_are_told_in_trtexecs_words(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that it does not know, too little memory, a process that was killed, an engine of another version."""
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(JobError, match=r"Frobnicate.*Failed to parse onnx file"):
        place.run("build", _request(facts, place, tmp_path / "bad.onnx"))
    (tmp_path / "large.onnx").write_bytes(b"too large")
    with pytest.raises(JobError, match="out of memory") as caught:
        place.run("build", _request(facts, place, tmp_path / "large.onnx"))
    assert caught.value.kind == "memory" and "workspace_mb" in caught.value.fix
    onnx = classifier(tmp_path / "a.onnx")
    monkeypatch.setenv("REPLAY_KILLED", "1")
    with pytest.raises(JobError, match=r"the build of orin/int8 was killed \(137") as caught:
        place.run("build", _request(facts, place, onnx))
    assert "swap" in caught.value.fix and not Path("int8.engine").exists()
    monkeypatch.delenv("REPLAY_KILLED")
    built = place.run("build", _request(facts, place, onnx))
    newer = _facts(_program(tmp_path, "11.4.1"), "11.4.1")
    spec = roads.engine_spec(newer, _row(place, built), built["sha256"], {})
    request = {"engine": spec, "parts": [place.part(images(1))], "image": IMAGE, "transform": None}
    with pytest.raises(JobError, match="Version tag does not match"):
        place.run("infer", request)


def test_an_unknown_option_is_not_swallowed(place: Place, tmp_path: Path) -> None:
    """Were the table wrong for a version, its trtexec would say so."""
    facts = _facts(_program(tmp_path, "8.5.2"), "10.3.0")
    with pytest.raises(JobError, match="Unknown option: --skipInference"):
        place.run("build", _request(facts, place, classifier(tmp_path / "a.onnx")))


def test_versions_in_banners() -> None:
    """As the releases print them."""
    for text, version in (
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --help", "8.5.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b17] # x", "10.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101302] # x", "10.13.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v11.1.0.106] [b48] # x", "11.1.0.106"),
        ("something else", ""),
    ):
        assert trtexec.version_of(text) == version


def test_a_trace_of_an_unknown_form_is_told() -> None:
    """Instead of a traceback or a wrong number."""
    with pytest.raises(JobError, match="computeMs"):
        trtexec.timings([{"latency": 1.0}], "engine", ())
    with pytest.raises(JobError, match="no query"):
        trtexec.timings([], "engine", ())
    with pytest.raises(JobError, match="unknown format"):
        trtexec.outputs({"values": []})
