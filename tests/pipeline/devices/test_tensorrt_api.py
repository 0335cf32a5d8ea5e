"""TensorRT's Python road on a device: its build against TensorRT-RTX's real builder, its run against stand-ins.

No engine has run here: there is no GPU. A small C library in the place of libcudart and a made-up `tensorrt` module
check what this package passes to the real ones, not what those do.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.devices import roads
from pipeline.devices.address import Device
from pipeline.devices.agent import cudart, tensorrt_api
from pipeline.devices.agent.batches import infer
from pipeline.devices.agent.errors import JobError
from pipeline.devices.agent.sampling import Limits
from pipeline.devices.session import JobFailed, connect
from tests.pipeline.devices.tiny import CLASSES, IMAGE, classifier, images

HERE = Path(__file__).parent


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx")


def _request(facts: dict[str, Any], onnx: str, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "pc/fp32-SM86", "engine_file": "fp32-SM86.engine", "onnx": onnx, "precision": "fp32",
        "batch_sizes": [1],
        "source": {"name": "image", "dtype": "uint8", "shape": [1, *IMAGE]},
        "options": {"compute_capabilities": ["SM86"], "workspace_mb": 256},
    }  # fmt: skip
    return roads.build_request(facts, "tensorrt_rtx", **(given | changes))


def test_an_engine_is_really_built_on_a_device_with_tensorrt_rtx(
    rtx: Any, local_device: Device, tmp_path: Path
) -> None:
    """The plan is the size of the host's own, progress comes while it is built, and it need not be sent back."""
    from export.engines import BACKENDS

    onnx = classifier(tmp_path / "a.onnx")
    events: list[dict[str, Any]] = []
    with connect(local_device) as session:
        facts = session.run("facts", {}, shared=True).result
        road = roads.road_of(facts, "tensorrt_rtx")
        assert road.built and road.name == "python" and road.versions == {"tensorrt_rtx": rtx.__version__}
        done = session.run("build", _request(facts, session.put(onnx)), events.append, detached=True)
        engine = session.fetch(done.job, done.result["file"], tmp_path / "engine")
        before = session.sent
        session.put(engine)
        assert session.sent - before < 500
        again = session.run("build", _request(facts, session.put(onnx)), detached=True)
        assert again.found and again.result == done.result
        session.release(done.job)
    local = tmp_path / "local.engine"
    info = BACKENDS["tensorrt_rtx"].build(onnx, local, compute_capabilities=["SM86"])
    assert engine.stat().st_size == pytest.approx(local.stat().st_size, rel=0.02)
    assert done.result["inputs"] == list(info.inputs) and done.result["outputs"] == list(info.outputs)
    assert [e for e in events if "progress" in e][-1]["progress"][0] > 0
    validity, _ = rtx.Runtime(rtx.Logger(rtx.Logger.ERROR)).get_engine_validity(engine.read_bytes()[:64])
    assert validity in (
        rtx.EngineValidity.VALID,
        rtx.EngineValidity.INVALID,
    )  # INVALID: there is no driver to ask


def test_the_builders_reason_comes_back(rtx: Any, local_device: Device, tmp_path: Path) -> None:
    """A file that cannot be parsed, and FP32 for Turing, with what to do about it."""
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with connect(local_device) as session:
        facts = session.run("facts", {}, shared=True).result
        with pytest.raises(JobFailed, match="the ONNX file cannot be parsed"):
            session.run("build", _request(facts, session.put(tmp_path / "junk.onnx")), detached=True)
        onnx = classifier(tmp_path / "a.onnx")
        turing = _request(facts, session.put(onnx), options={"compute_capabilities": ["SM75"]})
        with pytest.raises(JobFailed) as caught:
            session.run("build", turing, detached=True)
        assert "FP32" in str(caught.value)


def test_too_little_memory_is_told_before_a_build(tmp_path: Path) -> None:
    """With what is free, what is wanted, and what frees some."""
    from pipeline.devices.agent.memory import check_build

    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal: 4000000 kB\nMemAvailable: 307200 kB\nSwapFree: 102400 kB\n"
    )
    with pytest.raises(
        JobError, match=r"400 MiB of memory free .100 MiB of it swap., a build needs about 800 MiB"
    ) as e:
        check_build(100 << 20, 0, str(tmp_path))
    assert e.value.kind == "memory" and "swapon" in e.value.fix
    assert check_build(1 << 20, 0, "/no/such/place") == {"wanted": 503}, "unknown is not refused"


@pytest.fixture
def cuda(tmp_path: Path) -> cudart.Cuda:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path / "libcudart-stub.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "stub_cudart.c"], check=True)
    loaded = cudart.Cuda([str(library)])
    loaded.live = ctypes.CDLL(str(library)).stub_live  # type: ignore[attr-defined]
    return loaded


def test_the_real_library_has_every_function_that_is_called() -> None:
    """Where torch's CUDA runtime is installed, without a GPU."""
    found = [p for p in sys.path for p in Path(p).glob("nvidia/*/lib/libcudart.so.*")]
    if not found:
        pytest.skip("no libcudart here")
    real = cudart.Cuda([str(found[0])])
    assert real.device_count() >= 0
    if not real.device_count():
        with pytest.raises(JobError, match="CUDA failed in cudaMalloc"):
            real.made("cudaMalloc", 16)


class _Engine:
    """A made-up engine that sums the pixels of an image into each class, times the class."""

    num_optimization_profiles = 2

    def __init__(self) -> None:
        self.num_io_tensors = 2
        self.profile, self.shape, self.addresses = 0, (0,), {}  # type: ignore[var-annotated]
        self.active_optimization_profile = 0

    def get_tensor_name(self, index: int) -> str:
        return ("image", "logits")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "IN" if name == "image" else "OUT"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *IMAGE) if name == "image" else (-1, CLASSES)

    def get_tensor_dtype(self, name: str) -> Any:
        return types.SimpleNamespace(name="UINT8" if name == "image" else "FLOAT")

    def create_execution_context(self) -> _Engine:
        return self

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.active_optimization_profile = profile
        return bool(stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return shape[0] == (1, 4)[self.active_optimization_profile]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        count = int(np.prod(self.shape))
        raw = (ctypes.c_ubyte * count).from_address(self.addresses["image"])
        sums = np.frombuffer(raw, np.uint8).reshape(self.shape[0], -1).sum(1, dtype=np.float32)
        out = (ctypes.c_float * (self.shape[0] * CLASSES)).from_address(self.addresses["logits"])
        np.frombuffer(out, np.float32).reshape(-1, CLASSES)[...] = np.outer(sums, np.arange(CLASSES))
        return bool(stream)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("tensorrt")

    class ILogger:
        Severity = types.SimpleNamespace(ERROR=1, INTERNAL_ERROR=0, WARNING=2)

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            if plan != b"plan":
                self.log.log(1, "Serialization assertion failed: Version tag does not match")
                return None
            return _Engine()

    module.__dict__.update(
        __version__="10.3.0", ILogger=ILogger, Runtime=Runtime, TensorIOMode=types.SimpleNamespace(INPUT="IN")
    )
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def _open(tmp_path: Path, cuda: cudart.Cuda, plan: bytes = b"plan") -> tensorrt_api.TrtEngine:
    (tmp_path / "plan").write_bytes(plan)
    spec = {"backend": "tensorrt", "batch_sizes": [1, 4], "id": "orin/fp16"}
    return tensorrt_api.TrtEngine(str(tmp_path / "plan"), spec, cuda)


def test_images_go_through_buffers_and_profiles(trt: Any, cuda: Any, tmp_path: Path) -> None:
    """7 images are 4 and 3 padded to 4; nothing is left allocated after closing."""
    engine = _open(tmp_path, cuda)
    stored = images(7)
    logits = infer(engine, stored, None, lambda n: None)
    expected = np.outer(stored.reshape(7, -1).sum(1, dtype=np.float32), np.arange(CLASSES))
    np.testing.assert_array_equal(logits, expected.astype(np.float32))
    np.testing.assert_array_equal(infer(engine, stored[:1], None, lambda n: None), expected[:1])
    assert engine.facts == {"tensorrt": "10.3.0", "compute_capability": "SM87"}
    engine.close()
    engine.close()
    assert cuda.live() == 0


def test_times_are_those_of_events(trt: Any, cuda: Any, tmp_path: Path) -> None:
    """Compute alone, or with copies whose sum is the latency; launched as a graph, and said so."""
    engine = _open(tmp_path, cuda)
    limits = Limits(0.0, 20, 0.0, 1.0)
    alone = engine.time(images(4), "engine", limits)
    assert set(alone.arrays) == {"latency", "compute", "enqueue"} and set(alone.arrays["latency"]) == {2.0}
    copied = engine.time(images(1), "engine+copies", limits)
    assert copied.arrays["latency"][3] == pytest.approx(2.2) and copied.arrays["h2d"][3] == pytest.approx(0.1)
    assert len(copied) == 20 and copied.notes == ("CUDA graph",)
    lasting = engine.sustain(images(1), 0.05, 0.02, 100, lambda passed: None)
    assert lasting.queries >= len(lasting) and lasting.notes[0] == "CUDA graph"
    engine.close()
    assert cuda.live() == 0


def test_a_foreign_engine_and_full_memory_are_told(trt: Any, cuda: Any, tmp_path: Path) -> None:
    """With the library's words."""
    with pytest.raises(JobError, match="Version tag does not match") as caught:
        _open(tmp_path, cuda, b"of another version")
    assert "--force build" in caught.value.fix
    with pytest.raises(JobError, match="out of memory") as caught:
        cuda.made("cudaMalloc", 1 << 33)
    assert caught.value.kind == "memory"
