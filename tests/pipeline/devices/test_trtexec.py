"""Access through trtexec, against a stand-in that replays trtexec's documentation. No TensorRT has run here."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import load_model, numpy_helper

from export.accuracy import predicted
from export.engines import BACKENDS
from export.engines.trt_built import read_layers, summary
from export.runtime import warmup
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.remedies import Skipped, skipped_tactics
from pipeline.core.address import Device
from pipeline.devices.agent import trtexec
from pipeline.devices.agent.errors import JobError
from pipeline.devices.agent.jobs_folder import failure
from pipeline.devices.agent.trtexec_engine import TrtexecEngine
from pipeline.devices.faults import JobFailed, job_failed
from pipeline.devices.messages import Failure, read
from pipeline.places import access
from pipeline.results.rows.engines import EngineRow, Tensor
from tests.pipeline.devices import replay_trtexec
from tests.pipeline.devices.tiny import IMAGE, Place, classifier, images
from tests.pipeline.rows import engine_row

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
        "source": Tensor(name="image", dtype="uint8", shape=(1, *IMAGE)), "batch_sizes": [1], "options": {},
    }  # fmt: skip
    return access.build_request(facts, "tensorrt", **(given | changes))


def _row(place: Place, result: dict[str, Any], sizes: tuple[int, ...] = ()) -> EngineRow:
    image = Tensor(name="image", dtype="uint8", shape=("batch" if sizes else 1, *IMAGE))
    return engine_row("orin/int8", backend="tensorrt", inputs=(image,), batch_sizes=sizes or (1,))


def _timing(place: Place, specs: list[Any], **changes: Any) -> dict[str, Any]:
    cases = [
        {"name": f"orin/int8|1|{b}", "engine": "orin/int8", "batch": 1, "boundary": b}
        for b in ("engine", "engine+copies", "image_to_class")
    ]
    return {
        "engines": specs, "cases": cases, "parts": [place.part(images(5))], "image": IMAGE, "transform": None,
        "encoded": [], "preprocessing": Preprocessing(8, 8).to_json(), "warmup_s": 0.2, "min_samples": 1000,
        "min_seconds": 0.0, "max_seconds": 10.0, "rounds": 4, "max_load": 99.0, "agree": 99.0,
        "sustained_s": 0, "energy_s": 0,
    } | changes  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_build_score_and_time(version: str, place: Place, tmp_path: Path) -> None:
    """Only options that the version knows are used; logits come back to six digits, times as trtexec wrote them."""
    facts = _facts(_program(tmp_path, version), version)
    assert trtexec.probe(facts["tensorrt"]["trtexec"]) == version
    method = access.access_of(facts, "tensorrt")
    if version == "8.5.2":
        assert method.built and method.name == "trtexec"
    onnx = classifier(tmp_path / "a.onnx")
    built = place.run(
        "build", _request(facts, place, onnx, options={"workspace_mb": 64, "optimization_level": 3})
    )
    assert built["versions"] == {"tensorrt": version} and built["timing_cache"] == "new"
    assert Path(built["file"]).stat().st_size == built["bytes"]
    steps = [event["progress"][0] for event in place.events if "progress" in event]
    assert steps == sorted(steps) and steps[-1] == 5
    assert {"log": "Detected layernorm nodes in FP16."} in place.events
    listed = summary(read_layers(Path(built["layer_list"]).read_text()))
    assert listed["compute"] == {"int8 -> int8": 1} and listed["written_bytes"] == 512
    assert place.run("build", _request(facts, place, onnx))["timing_cache"] == "reused"

    stored = images(5)
    spec = access.engine_spec(facts, _row(place, built), built["sha256"], {})
    request = {"engine": spec, "parts": [place.part(stored)], "image": IMAGE, "transform": None, "repeat": 2}
    scored = place.run("infer", request)
    expected = BACKENDS["onnxruntime"].load(onnx, threads=1).infer(stored)
    np.testing.assert_allclose(np.load(scored["logits"]), expected, rtol=1e-5)
    assert np.load(scored["repeated"]).shape == (2, 5)

    timed = place.run("time", _timing(place, [spec], sustained_s=2))
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
    assert 0 < timed["sustained"]["orin/int8"]["resolution_ms"] < 0.001
    left = {p.name for p in Path().iterdir()}
    assert left <= {
        "layers.txt",
        "int8.engine",
        "build.log",
        "trtexec.log",
        "logits.npy",
        "repeated.npy",
        "samples.f64",
        "golden.npy",
    }


@pytest.mark.parametrize(
    ("told", "steady"),
    [([300, 300, 700, 1100, 1110, 1105], True), ([300, 300, 700, 300, 700, None], False)],
)
def test_a_run_is_warmed_up_for_as_long_as_the_clock_needs(
    told: list[float | None], steady: bool, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run of trtexec starts with a cold GPU. One run is watched; those that are timed warm up for so long."""
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    built = place.run("build", _request(facts, place, classifier(tmp_path / "a.onnx")))
    spec = access.engine_spec(facts, _row(place, built), place.put(Path(built["file"])), {})
    left, hold = iter(told), tmp_path / "seen"
    monkeypatch.setenv("REPLAY_HOLD", str(hold))

    def clocks() -> dict[str, dict[str, float | None]]:
        found = next(left)
        if found == told[-1]:
            hold.touch()
        return {"gpu": {"mhz": found}}

    monkeypatch.setattr(warmup, "clocks", clocks)
    timed = place.run("time", _timing(place, [spec], min_samples=10, rounds=2))
    kept = [mhz for mhz in told[1:] if mhz is not None]
    seconds = warmup.WINDOW_S * len(kept)
    assert timed["warm_up"] == {"orin/int8": {"seconds": seconds, "mhz": kept, "steady": steady}}
    watched, *runs = re.findall(r"&&&& RUNNING.*--warmUp=(\d+)", Path("trtexec.log").read_text())
    assert watched == "5000" and runs == ["1250" if steady else ms for ms in ("200", "200", "50", "50")]


def test_where_no_clock_can_be_read_the_usual_warm_up_does(place: Place, tmp_path: Path) -> None:
    """As on most desktops without NVML; no run is spent on it."""
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    built = place.run("build", _request(facts, place, classifier(tmp_path / "a.onnx")))
    engine = TrtexecEngine(built["file"], access.engine_spec(facts, _row(place, built), built["sha256"], {}))
    assert engine.warm(images(1), lambda: None) is None and not Path("trtexec.log").exists()


def test_several_batch_sizes_get_one_profile(place: Place, tmp_path: Path) -> None:
    """Shapes are given for a dynamic engine, and only for one."""
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    onnx = classifier(tmp_path / "a.onnx", batch=None)
    source = Tensor(name="image", dtype="uint8", shape=("batch", *IMAGE))
    request = _request(facts, place, onnx, batch_sizes=[1, 4], source=source)
    assert "--optShapes=image:1x8x8x3" in request["trtexec"]["build"]
    built = place.run("build", request)
    spec = access.engine_spec(facts, _row(place, built, (1, 4)), built["sha256"], {})
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
    found = _failed(place, _request(facts, place, tmp_path / "bad.onnx"))
    assert "Frobnicate" in found.what and "Failed to parse onnx file" in found.what
    assert "no such operator" in found.what and "engine: onnxruntime" in found.fix
    (tmp_path / "large.onnx").write_bytes(b"too large")
    found = _failed(place, _request(facts, place, tmp_path / "large.onnx"))
    assert found.kind == "memory" and "out of memory" in found.what and "workspace_mb" in found.fix
    onnx = classifier(tmp_path / "a.onnx")
    monkeypatch.setenv("REPLAY_KILLED", "1")
    found = _failed(place, _request(facts, place, onnx))
    assert "the build of orin/int8 was killed (137" in found.what
    assert "swap" in found.fix and not Path("int8.engine").exists()
    monkeypatch.delenv("REPLAY_KILLED")
    built = place.run("build", _request(facts, place, onnx))
    newer = _facts(_program(tmp_path, "11.4.1"), "11.4.1")
    spec = access.engine_spec(newer, _row(place, built), built["sha256"], {})
    request = {"engine": spec, "parts": [place.part(images(1))], "image": IMAGE, "transform": None}
    found = _failed(place, request, "infer")
    assert "Version tag does not match" in found.what and "--force build" in found.fix


def _failed(place: Place, request: dict[str, Any], job: str = "build") -> JobFailed:
    """What the host makes of a job that fails."""
    with pytest.raises(JobError) as caught:
        place.run(job, request)
    outcome = json.dumps({**failure(caught.value), "seconds": 1.0, "log": ""}).encode()
    return job_failed(Device("ssh://orin"), read(Failure, outcome))


@pytest.mark.parametrize(
    ("lines", "shown", "fix"),
    [
        # As the driver writes it: without a level.
        ("NvMapMemAllocInternalTagged: 1075072515 error 12\nNvMapMemHandleAlloc: error 0", "error 12", "reboot"),
        ("/x/trtexec: error while loading shared libraries: libnvinfer.so.10: cannot open shared object file",
         "libnvinfer.so.10", "nvidia-jetpack"),
        ("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc", "bad_alloc",
         "swap"),
        ("[11/22/2024-13:40:47] [F] [TRT] Assertion failed: Unsupported SM.", "Unsupported SM", "newer"),
        ("[11/22/2024-13:40:47] [E] Error[10]: Could not find any implementation for node {ForeignNode[a...b]}.\n"
         "NvMapMemAllocInternalTagged: 1075072515 error 12", "Could not find any implementation", "reboot"),
        ("[11/22/2024-13:40:47] [E] [TRT] 3: getPluginCreator could not find plugin: A version: 1\n"
         "NvMapMemAllocInternalTagged: 1075072515 error 12", "getPluginCreator", "engine: onnxruntime"),
        ("[11/22/2024-13:40:47] [W] [TRT] Requested amount of GPU memory (15485030400 bytes) could not be allocated.\n"
         "[11/22/2024-13:40:47] [E] Error[10]: Could not find any implementation for node {ForeignNode[a...b]}.",
         "Could not find", "free memory"),
        ("[11/22/2024-13:40:47] [I] nothing is wrong\n  --errorOnTimingCacheMiss  a line of a help", "exit code 1", ""),
    ],
)  # fmt: skip
def test_no_line_is_lost_for_its_form(
    lines: str, shown: str, fix: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver, the linker and the C++ runtime write no level; a cause may be a warning before the error."""
    monkeypatch.setenv("REPLAY_BUILD", lines)
    monkeypatch.setenv("REPLAY_FAILS", "1")
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    found = _failed(place, _request(facts, place, classifier(tmp_path / "a.onnx")))
    assert shown in found.what and fix in found.fix and bool(found.fix) is bool(fix)


def test_thousands_of_errors_are_bounded(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and the last are sent, the host shows some."""
    lines = [f"[11/22/2024-13:40:47] [E] [TRT] error {i} {'x' * 3000}" for i in range(3000)]
    (tmp_path / "lines").write_text(
        "\n".join([*lines, "[1] [E] Error Code 2: OutOfMemory (no further information)"])
    )
    program = tmp_path / "loud"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/lines\nexit 1\n")
    program.chmod(0o755)
    found = _failed(place, _request(_facts(str(program), "10.3.0"), place, classifier(tmp_path / "a.onnx")))
    assert len(found.what) < 3000 and "more lines" in found.what and found.kind == "memory"


def test_outputs_that_are_not_finite_come_back_as_they_are(place: Place, tmp_path: Path) -> None:
    """The host counts them, as with the other access method; here they are no defect of the parser."""
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    onnx = classifier(tmp_path / "a.onnx")
    model = load_model(onnx)
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[:, 0], weights[:, 1] = np.nan, np.inf
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))
    onnx.write_bytes(model.SerializeToString())
    built = place.run("build", _request(facts, place, onnx))
    spec = access.engine_spec(facts, _row(place, built), built["sha256"], {})
    stored = images(2)
    scored = place.run(
        "infer", {"engine": spec, "parts": [place.part(stored)], "image": IMAGE, "transform": None}
    )
    logits = np.load(scored["logits"])
    assert np.isnan(logits[:, 0]).all() and np.isinf(logits[0, 1]) and np.isfinite(logits[:, 2:]).all()
    assert (predicted(logits) == -1).all()


def test_a_build_that_skips_tactics_keeps_its_log(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host counts them there: the engine may be slower than it could be."""
    monkeypatch.setenv("REPLAY_BUILD", "[1] [W] [TRT] Tactic Device request: 600MB Available: 302MB.")
    facts = _facts(_program(tmp_path, "10.3.0"), "10.3.0")
    built = place.run("build", _request(facts, place, classifier(tmp_path / "a.onnx")))
    assert {"log": "Tactic Device request: 600MB Available: 302MB."} in place.events
    assert skipped_tactics(Path(built["log"]).read_text().splitlines()) == Skipped(1, 600)


def test_an_unknown_option_is_not_swallowed(place: Place, tmp_path: Path) -> None:
    """Were the table wrong for a version, its trtexec would say so."""
    facts = _facts(_program(tmp_path, "8.5.2"), "10.3.0")
    found = _failed(place, _request(facts, place, classifier(tmp_path / "a.onnx")))
    assert "Unknown option: --skipInference" in found.what and "same version" in found.fix


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
