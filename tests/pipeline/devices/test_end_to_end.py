"""The pipeline with a target on a device behind a real sshd, ONNX Runtime as its engine: built, scored, timed there."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export import graph
from export.predictions import read_predictions
from pipeline.results.result import Result
from pipeline.results.rows.samples import RawSamples
from tests.pipeline.conftest import FONTS, TINY, Done, Finished, figkd, sets
from tests.pipeline.devices.sshd import PROGRAM, Sshd, running_sshd


def target(server: Sshd, **changes: str) -> str:
    """A target on the server's device, as `--set` takes it."""
    remote = {
        "folder": str(server.folder), "ssh_config": str(server.config), "python": sys.executable, "silence_s": "5"
    }  # fmt: skip
    keys = ", ".join(
        f"{key}: '{value}'" if key != "silence_s" else f"{key}: {value}" for key, value in remote.items()
    )
    more = "".join(f", {key}: {value}" for key, value in changes.items())
    return f"{{engine: onnxruntime, device: '{server.url}', remote: {{{keys}}}{more}}}"


@dataclass(frozen=True)
class OnDevice:
    """A folder with a finished run whose only target is on the device."""

    folder: Path
    server: Sshd
    done: Done

    def figkd(self, name: str, *arguments: str, **changes: Any) -> Done:
        """Run a command on the same config and store, with keys changed."""
        keys = TINY | {"targets.rtx": "null", "targets.cpu": target(self.server), "budgets.engine_mb": "null"}
        return figkd(name, FONTS, *sets(keys | changes), *arguments, cwd=self.folder)

    def artifact(self, step: str) -> Path:
        """The newest artifact of a step."""
        found = (self.folder / ".figkd/artifacts" / step).iterdir()
        return max(found, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def on_device(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnDevice]:
    """What the demonstration trained is taken; the target `cpu` moves to the device."""
    if PROGRAM is None:
        pytest.skip("sshd is not installed (apt install openssh-server)")
    folder = tmp_path_factory.mktemp("on_device")
    (folder / "sshd").mkdir()
    shutil.copytree(finished.folder / ".figkd", folder / ".figkd")
    with running_sshd(folder / "sshd") as server:
        state = OnDevice(folder, server, Done(0, "", ""))
        done = state.figkd("run")
        assert done.code == 0, done.err
        yield OnDevice(folder, server, done)


def _result(on_device: OnDevice) -> Result:
    return Result.model_validate_json(
        (on_device.folder / "runs/fonts_cpu/result.json").read_text(encoding="utf-8")
    )


def test_every_engine_ran_on_the_device(on_device: OnDevice, finished: Finished) -> None:
    """Its rows are whole, its accuracy that of the same files here, and the raw samples give the statistics."""
    result = _result(on_device)
    here = Result.model_validate_json(
        (finished.folder / "runs/fonts_cpu/result.json").read_text(encoding="utf-8")
    )
    expected = {e.id: e.accuracy for e in here.engines}
    samples = RawSamples(on_device.artifact("benchmark@cpu"))
    for engine in result.engines:
        assert engine.state == "ran" and engine.accuracy is not None
        assert engine.accuracy.source == "engine" and engine.accuracy.identical_rows
        assert engine.accuracy == expected[engine.id]
        assert {row.boundary for row in engine.latency} == {"engine", "engine+copies", "image_to_class"}
        for row in engine.latency:
            raw = samples.of(row.samples)
            assert len(raw) == row.n >= 30 and np.median(raw) == pytest.approx(row.median)
        assert engine.file is not None and (on_device.folder / "runs/fonts_cpu" / engine.file).is_file()


def test_the_report_says_which_device(on_device: OnDevice) -> None:
    """Each row, and the facts of the machine that was measured: not this one's."""
    result = _result(on_device)
    assert all(engine.device.startswith("figkd-test: ") for engine in result.engines)
    facts = result.devices["cpu"]
    assert facts["device"] == "figkd-test" and facts["facts"]["cpu"] and facts["golden"]["max_abs"] == 0
    assert result.machine == {}
    for page in ("report.md", "report.html"):
        assert "figkd-test" in (on_device.folder / "runs/fonts_cpu" / page).read_text(encoding="utf-8")


def test_running_again_does_nothing_and_sends_next_to_nothing(on_device: OnDevice) -> None:
    """Facts are asked for; what is forced is measured again without sending images or engines again."""
    before = sum(p.stat().st_size for p in (on_device.server.folder / "blobs").iterdir())
    done = on_device.figkd("run")
    assert done.code == 0 and "cached benchmark@cpu" in done.err and "started" not in done.err
    done = on_device.figkd("run", "--force", "validate", "--force", "benchmark")
    assert done.code == 0, done.err
    assert sum(p.stat().st_size for p in (on_device.server.folder / "blobs").iterdir()) == before


def test_what_is_left_on_the_device(on_device: OnDevice) -> None:
    """The agent, what was sent, the lock; no job, nothing unfinished, nothing outside the folder."""
    left = {
        p.relative_to(on_device.server.folder).parts[0]
        for p in on_device.server.folder.rglob("*")
        if p.is_file()
    }
    assert left <= {".figkd-device", "agent", "blobs", "lock", "lock.json", "cache"}
    assert not list((on_device.server.folder / "blobs").glob("*.part"))


def test_one_device_fails_and_the_other_goes_on(on_device: OnDevice, tmp_path: Path) -> None:
    """Exit 5, both in the report, the good one complete; nothing of the other is shown as measured."""
    config = (on_device.server.place / "ssh_config").read_text(encoding="utf-8")
    (tmp_path / "ssh_config").write_text(config + "\nHost nobody\n  HostName 127.0.0.1\n  Port 1\n")
    broken = target(on_device.server).replace("ssh://figkd-test", "ssh://nobody")
    broken = broken.replace(str(on_device.server.config), str(tmp_path / "ssh_config"))
    done = on_device.figkd("run", "--json", **{"targets.gone": broken, "output": tmp_path / "out"})
    assert done.code == 5, done.err
    result = Result.model_validate(json.loads(done.out))
    assert {e.state for e in result.engines if e.target == "cpu"} == {"ran"}
    assert {s.target: s.state for s in result.shipping} == {"cpu": "ship", "gone": "failed"}
    assert "nobody" in done.err and "unreachable" in result.failures["build@gone"]["what"]


def test_a_back_end_that_the_device_lacks_is_told_before_anything_runs(
    on_device: OnDevice, tmp_path: Path
) -> None:
    """With what to install there; not required, its rows say so."""
    missing = target(on_device.server, required="false").replace("onnxruntime", "tensorrt")
    done = on_device.figkd("run", "--json", **{"targets.trt": missing, "output": tmp_path})
    assert done.code == 0, done.err
    rows = [e for e in done.json["engines"] if e["target"] == "trt"]
    assert len(rows) == 3 and {r["state"] for r in rows} == {"missing"}
    assert all("nvidia-jetpack" in r["fix"] for r in rows)
    demanded = missing.replace(", required: false", "")
    done = on_device.figkd("run", **{"targets.cpu": demanded, "output": tmp_path, "seed": 1})
    assert done.code == 5 and "nvidia-jetpack" in done.err and "started" not in done.err


def test_images_go_in_parts_where_the_disk_is_small(
    on_device: OnDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Part by part, each removed after the last engine; the logits are the same."""
    from pipeline.config import load_config
    from pipeline.core.store import Store
    from pipeline.devices.store import Part, parts
    from pipeline.places import device_jobs, device_score
    from pipeline.places.device import OnDevice
    from pipeline.results.rows.scores import read_scores
    from pipeline.run.planning import Selection, plan
    from pipeline.stages.base import PREDICTIONS, Work

    monkeypatch.chdir(on_device.folder)
    keys = TINY | {
        "targets.rtx": "null",
        "targets.cpu": target(on_device.server),
        "budgets.engine_mb": "null",
    }
    config = load_config(FONTS, [f"{k}={v}" for k, v in keys.items()])
    planned = {p.step.id: p for p in plan(config, Store(config.store.folder), Selection())}
    inputs = {step: p.artifact.path for step, p in planned.items() if p.artifact}
    made: list[Part] = []

    def few(images: Any, folder: Path, limit: int = 30 * 32 * 32 * 3) -> Iterator[Part]:
        for part in parts(images, folder, limit):
            made.append(part)
            yield part

    monkeypatch.setattr(device_jobs, "parts", few)
    monkeypatch.setattr(device_score, "fits", lambda images, free: False)
    device = on_device.server.device(folder=str(tmp_path / "small"))
    stage = next(p.step.stage for p in planned.values() if p.step.id == "validate@cpu")
    work = Work(
        stage.arguments(config, "cpu"),
        inputs,
        {},
        tmp_path,
        tmp_path,
        lambda *_: None,
        place=OnDevice(device),
    )
    stage.run(work)
    assert [part.count for part in made] == [30, 30, 24]
    assert read_scores(work.out) == read_scores(inputs["validate@cpu"])
    answers = read_predictions(work.out / PREDICTIONS)
    kept = read_predictions(inputs["validate@cpu"] / PREDICTIONS)
    assert {name: a.classes.tolist() for name, a in answers.items()} == {
        name: a.classes.tolist() for name, a in kept.items()
    }
    sizes = [p.stat().st_size for p in (tmp_path / "small/blobs").iterdir()]
    assert max(sizes) < 30 * 32 * 32 * 3, "no part of the images is left"


def test_plan_says_that_a_device_is_off(on_device: OnDevice, tmp_path: Path) -> None:
    """Also where its own steps are far away: exit 5, and the plan all the same."""
    gone = target(on_device.server).replace(f"{on_device.server.url}", "ssh://nobody.invalid")
    done = on_device.figkd("plan", "--json", **{"targets.cpu": gone, "seed": 1})
    assert done.code == 5 and "targets.cpu.device: nobody.invalid: there is no host of that name" in done.err
    assert {"report", "package@cpu"} <= {row["step"] for row in done.json}


@pytest.mark.slow
@pytest.mark.parametrize(("version", "opset"), [("10.3.0", 20), ("8.6.2", 17), ("8.5.2", 16)])
def test_the_whole_pipeline_through_trtexec(
    on_device: OnDevice, tmp_path: Path, version: str, opset: int
) -> None:
    """As on a Jetson without python3-libnvinfer, with a stand-in for trtexec: built, scored and timed by it.

    JetPack 5.1 (8.5) and 6.0 (8.6) get the same files in an older operator set, all values FP32, and flags; the report
    says that TensorRT chose the precisions.
    """
    from tests.pipeline.devices import replay_trtexec

    programs = {
        "trtexec": f'exec {sys.executable} {replay_trtexec.__file__} {version} "$@"',
        "nvidia-smi": "echo 'A GPU that is not there, 540.4.0, 8.7'",
        "python": f'PATH={tmp_path}:$PATH exec {sys.executable} "$@"',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    orin = target(on_device.server, precisions="[fp16, int8]").replace("onnxruntime", "tensorrt")
    orin = orin.replace(sys.executable, str(tmp_path / "python"))
    changes = {
        "targets.cpu": "null",
        "targets.orin": orin,
        "benchmark.sustained_s": 2,
        "output": tmp_path / "out",
    }
    done = on_device.figkd("run", "--json", **changes)
    assert done.code == 0, done.err
    result = Result.model_validate(done.json)
    weak = version.startswith("8")
    for engine, precision in zip(result.engines, ("fp16", "int8"), strict=True):
        assert engine.state == "ran" and engine.onnx == f"{precision}.onnx"
        assert engine.file == f"engines/orin/{precision}.engine"
        assert engine.accuracy is not None and engine.accuracy.source == "engine"
        assert engine.accuracy.agreement is not None
        layers = engine.composition.engine
        assert layers is not None and layers.compute == {"int8 -> int8": 1}
        assert {row.boundary: row.median for row in engine.latency} == {"engine": 2.0, "engine+copies": 2.375}
        assert (f"tensorrt {version} chose FP32 or FP16" in engine.detail) is weak
        plan = tmp_path / "out/fonts_cpu" / engine.file
        assert plan.with_name(f"{plan.name}.layers.json").is_file()
        sidecar = json.loads(plan.with_name(f"{plan.name}.json").read_text(encoding="utf-8"))
        assert sidecar["versions"] == {"tensorrt": version} and sidecar["compute_capability"] == ["SM87"]
        assert sidecar["options"]["strong_typing"] is not weak
        model = onnx.load_from_string(plan.read_bytes().partition(b"\n")[2])
        assert graph.opset(model) == opset
        halves = onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in model.graph.initializer}
        assert halves is not weak
    facts = result.devices["orin"]
    assert facts["facts"]["tensorrt"]["trtexec_version"] == version
    assert facts["sustained"]["orin/int8"]["n"] > 0 and "trtexec cannot" in facts["missing"][0]
    cache = on_device.server.folder / "cache" / f"tensorrt-A_GPU_that_is_not_there-SM87-{version}.timing"
    assert cache.is_file()
    log = (on_device.artifact("build@orin") / "build.log").read_text(encoding="utf-8")
    assert ("--fp16 --int8" in log) is weak and ("--stronglyTyped" in log) is not weak
