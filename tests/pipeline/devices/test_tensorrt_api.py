"""Building through TensorRT's Python API on a device: against TensorRT-RTX's real builder, and against stand-ins."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from export.engines.trt_built import read_layers, summary
from export.graph import load_model
from export.runtime.errors import EngineError
from pipeline.core.address import Device
from pipeline.devices.agent import layers, tensorrt_api
from pipeline.devices.agent.errors import JobError, job_error
from pipeline.devices.agent.jobs_folder import failure
from pipeline.devices.faults import JobFailed, job_failed
from pipeline.devices.messages import Event, Failure, read
from pipeline.devices.results import BUILD
from pipeline.devices.session import connect
from pipeline.places import access
from pipeline.results.rows.engines import Tensor
from tests.export.engines import stand_ins
from tests.pipeline.devices.tiny import IMAGE, classifier


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx")


def _request(facts: dict[str, Any], onnx: str, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "pc/fp32-SM86", "engine_file": "fp32-SM86.engine", "onnx": onnx, "precision": "fp32",
        "batch_sizes": [1],
        "source": Tensor(name="image", dtype="uint8", shape=(1, *IMAGE)),
        "options": {"compute_capabilities": ["SM86"], "workspace_mb": 256},
    }  # fmt: skip
    return access.build_request(facts, "tensorrt_rtx", **(given | changes))


def test_an_engine_is_really_built_on_a_device_with_tensorrt_rtx(
    rtx: Any, local_device: Device, tmp_path: Path
) -> None:
    """The plan is the size of the host's own, progress comes while it is built, and it need not be sent back."""
    from export.engines import BACKENDS

    onnx = classifier(tmp_path / "a.onnx")
    events: list[Event] = []
    with connect(local_device) as session:
        facts = session.facts()
        method = access.access_of(facts, "tensorrt_rtx")
        assert (
            method.built and method.name == "python" and method.versions == {"tensorrt_rtx": rtx.__version__}
        )
        done = session.run(BUILD, _request(facts, session.put(onnx)), events.append, detached=True)
        engine = session.fetch(done.job, done.result["file"], tmp_path / "engine", 1 << 24)
        listed = session.fetch(done.job, done.result["layer_list"], tmp_path / "layers", 1 << 20).read_text()
        before = session.sent
        session.put(engine)
        assert session.sent - before < 500
        again = session.run(BUILD, _request(facts, session.put(onnx)), detached=True)
        assert again.found and again.result == done.result
        session.release(done.job)
    local = tmp_path / "local.engine"
    info = BACKENDS["tensorrt_rtx"].build(onnx, local, compute_capabilities=["SM86"])
    assert engine.stat().st_size == pytest.approx(local.stat().st_size, rel=0.02)
    assert summary(read_layers(listed)) == info.composition["engine"], "typed layers, as on this machine"
    for key, tensors in (("inputs", info.inputs), ("outputs", info.outputs)):
        assert done.result[key] == [tensor.to_json() for tensor in tensors]
    assert [e.progress for e in events if e.progress][-1][0] > 0
    validity, _ = rtx.Runtime(rtx.Logger(rtx.Logger.ERROR)).get_engine_validity(engine.read_bytes()[:64])
    assert validity in (
        rtx.EngineValidity.VALID,
        rtx.EngineValidity.INVALID,
    )  # INVALID: there is no driver to ask


def test_a_list_of_layers_is_kept_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too long stays on the device."""
    monkeypatch.chdir(tmp_path)
    layers.keep("")
    assert layers.kept() == "" and not Path(layers.FILE).exists()
    layers.keep('{"Layers": ["a"]}')
    assert layers.kept() == layers.FILE and len(read_layers(Path(layers.FILE).read_text())) == 1
    monkeypatch.setattr(layers, "MOST", 10)
    assert layers.kept() == ""


def test_the_builders_reason_comes_back(rtx: Any, local_device: Device, tmp_path: Path) -> None:
    """A file that cannot be parsed, and FP32 for Turing, with what to do about it."""
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with connect(local_device) as session:
        facts = session.facts()
        with pytest.raises(JobFailed, match="cannot read the ONNX file: the file cannot be read as ONNX"):
            session.run(BUILD, _request(facts, session.put(tmp_path / "junk.onnx")), detached=True)
        onnx = classifier(tmp_path / "a.onnx")
        turing = _request(facts, session.put(onnx), options={"compute_capabilities": ["SM75"]})
        with pytest.raises(JobFailed) as caught:
            session.run(BUILD, turing, detached=True)
        assert "FP32" in str(caught.value)


def test_too_little_memory_is_told_before_a_build(tmp_path: Path) -> None:
    """With what is free, what is wanted, and what frees some."""
    from pipeline.devices.agent.memory import check_build

    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal: 4000000 kB\nMemAvailable: 307200 kB\nSwapFree: 102400 kB\n"
    )
    (tmp_path / "proc/swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n/swapfile file 102400 0 -2\n")
    with pytest.raises(
        JobError, match=r"400 MiB of memory free .100 MiB of it swap on disk., a build needs about 800 MiB"
    ) as e:
        check_build(100 << 20, 0, str(tmp_path))
    assert e.value.kind == "memory" and "swapon" in e.value.fix
    assert check_build(1 << 20, 0, "/no/such/place") == {"wanted": 503}, "unknown is not refused"


@pytest.mark.parametrize("version", ["8.5.2", "8.6.2"])
def test_a_build_without_strong_typing_is_told_flags_and_layers(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On JetPack 5.1 and 6.0: precisions to choose from, and what must stay FP32 in and out."""
    made_up = stand_ins.tensorrt(stand_ins.Cuda(), version)
    monkeypatch.setitem(sys.modules, "tensorrt", made_up)
    monkeypatch.chdir(tmp_path)  # a job's folder
    onnx = classifier(tmp_path / "a.onnx")
    facts = {"tensorrt": {"python": version}, "packages": {"numpy": "1.17"}, "gpu": "Orin", "soc": "tegra234"}
    names = [node.name for node in load_model(onnx).graph.node]
    request = access.build_request(
        facts, "tensorrt", name="orin/int8", engine_file="int8.engine", onnx="", precision="int8", batch_sizes=[1],
        source=Tensor(name="image", dtype="uint8", shape=(1, *IMAGE)),
        options={"optimization_level": 4}, weak_flags=("FP16", "INT8"), fp32_layers=names[1:3],
    )  # fmt: skip
    assert request["access"] == "python" and not request["dialect"]["strong_typing"]
    tensorrt_api.build_engine(str(onnx), str(tmp_path / "engine"), request, "", lambda event: None)
    config = made_up._state.configs[-1]
    assert config._flags == ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]
    assert made_up._state.held == {name: ["FLOAT", "FLOAT"] for name in names[1:3]}
    assert config.builder_optimization_level == (3 if version == "8.5.2" else 4)  # 8.5 has no such option


def _sent(error: JobError, log: str = "") -> Failure:
    """What comes of an error on the host."""
    return read(Failure, json.dumps({**failure(error), "seconds": 1.0, "log": log}).encode())


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = stand_ins.tensorrt(stand_ins.Cuda(), "10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def _build(tmp_path: Path) -> JobError:
    facts = {"tensorrt": {"python": "10.3.0"}, "packages": {"numpy": "1.26"}, "gpu": "Orin"}
    onnx = classifier(tmp_path / "a.onnx")
    request = access.build_request(
        facts, "tensorrt", name="orin/fp16", engine_file="a.engine", onnx="0", precision="fp16", batch_sizes=[1],
        source=Tensor(name="image", dtype="uint8", shape=(1, *IMAGE)), options={},
    )  # fmt: skip
    with pytest.raises(EngineError) as caught:
        tensorrt_api.build_engine(str(onnx), str(tmp_path / "a.engine"), request, "", lambda event: None)
    return job_error(caught.value)


def test_a_build_that_fails_is_understood_by_the_host(builder: Any, tmp_path: Path) -> None:
    """The same table as for engines that are built here, whichever way the texts came."""
    device = Device("ssh://orin")
    builder._state.refuse_build = "Error Code 2: OutOfMemory (no further information)"
    told = job_failed(device, _sent(_build(tmp_path)))
    assert (
        told.kind == "memory"
        and "cannot build an engine from the ONNX file: Error Code 2: OutOfMemory" in told.what
    )
    assert "workspace_mb" in told.fix and "desktop" in told.fix
    builder._state.refuse_build = "Could not find any implementation for node {ForeignNode[a...b]}"
    assert "precision.exclude" in job_failed(device, _sent(_build(tmp_path))).fix
    driver = (
        "Traceback\nNvMapMemAllocInternalTagged: 1075072515 error 12\n"  # past the logger, into the job's log
    )
    assert "reboot" in job_failed(device, _sent(_build(tmp_path), driver)).fix
    builder._state.warnings = ["Tactic Device request: 600MB Available: 302MB. Device memory is insufficient"]
    assert "free memory" in job_failed(device, _sent(_build(tmp_path))).fix


def test_a_library_that_makes_no_builder_says_why(builder: Any, tmp_path: Path) -> None:
    """TensorRT 8.6 warns that the driver is too old, and Python sees a TypeError of pybind11."""
    builder._state.no_builder = (
        "CUDA initialization failure with error: 35. Please check your CUDA installation"
    )
    told = job_failed(Device("ssh://pc"), _sent(_build(tmp_path)))
    assert "tensorrt 10.3.0 cannot start: CUDA initialization failure" in told.what and "580" in told.fix


def test_what_the_agent_knows_itself_stays() -> None:
    """The table is for a library's words."""
    own = JobError(
        "numpy cannot be imported on the device: killed", "sudo apt install python3-numpy", "missing"
    )
    told = job_failed(Device("ssh://orin"), _sent(own))
    assert told.fix == own.fix and told.what.endswith("killed") and told.kind == "missing"
    unknown = job_failed(Device("ssh://orin"), _sent(JobError("it failed", "look at it", said=["who knows"])))
    assert unknown.fix == "look at it" and unknown.what.endswith("it failed: who knows")
