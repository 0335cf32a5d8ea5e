"""Protects: what a TensorRT engine passes to CUDA, by a small C library in its place, and that all of it is freed.

No engine runs here. A made-up `tensorrt` module and the C library check what this package passes to the real ones, not
what those do.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.runtime import cudart
from export.runtime.errors import BackendMissing, EngineError
from export.runtime.sampling import Limits
from export.runtime.trt_engine import TensorRTEngine
from pipeline.core.address import Device
from pipeline.devices.agent.batches import infer
from pipeline.devices.agent.errors import job_error
from pipeline.devices.agent.jobs_folder import failure
from pipeline.devices.faults import job_failed
from pipeline.devices.messages import Failure, read
from tests.pipeline.devices.tiny import CLASSES, IMAGE, images

HERE = Path(__file__).parent


@pytest.fixture
def cuda(tmp_path: Path) -> cudart.Cuda:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path / "libcudart-stub.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "stub_cudart.c"], check=True)
    made = cudart.Cuda(cudart.load([str(library)]))
    made.live = ctypes.CDLL(str(library)).stub_live  # type: ignore[attr-defined]
    return made


def test_the_real_library_has_every_function_that_is_called() -> None:
    """Where a CUDA runtime is installed, without a GPU."""
    try:
        real = cudart.loaded()
    except BackendMissing:
        pytest.skip("no libcudart here")
    assert int(real.version().split(".")[0]) >= 11
    if not real.device_count():
        assert "CUDA device" in cudart.probe()[1]
        for make in (
            lambda: cudart.Stream(real),
            lambda: cudart.Event(real),
            lambda: cudart.Buffer(real, (2, 3), "float32"),
            real.compute_capability,
            real.device_name,
        ):
            with pytest.raises(EngineError, match=r"CUDA failed in cuda.*: cudaError"):
                make()
        with pytest.raises(BackendMissing, match="there is no GPU to use"):
            cudart.required()


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


def _open(tmp_path: Path, cuda: cudart.Cuda, plan: bytes = b"plan") -> TensorRTEngine:
    (tmp_path / "plan").write_bytes(plan)
    return TensorRTEngine(tmp_path / "plan", "tensorrt", [1, 4], cuda=cuda)


def test_images_go_through_buffers_and_profiles(trt: Any, cuda: Any, tmp_path: Path) -> None:
    """7 images are 4 and 3 padded to 4; nothing is left allocated after closing."""
    engine = _open(tmp_path, cuda)
    stored = images(7)
    logits = infer(engine, stored, None, lambda n: None)
    expected = np.outer(stored.reshape(7, -1).sum(1, dtype=np.float32), np.arange(CLASSES))
    np.testing.assert_array_equal(logits, expected.astype(np.float32))
    np.testing.assert_array_equal(infer(engine, stored[:1], None, lambda n: None), expected[:1])
    assert engine.facts == {"tensorrt": "10.3.0", "compute_capability": "SM87", "device": "Stub GPU"}
    engine.close()
    engine.close()
    assert cuda.live() == 0


def test_times_are_those_of_events(trt: Any, cuda: Any, tmp_path: Path) -> None:
    """Compute alone, or with copies whose sum is the latency; launched as a graph, and said so."""
    engine = _open(tmp_path, cuda)
    limits = Limits(warmup_s=0.0, min_samples=20, max_seconds=1.0)
    alone = engine.time(images(4), limits)
    assert set(alone.arrays) == {"latency", "compute", "enqueue"} and set(alone.arrays["latency"]) == {2.0}
    copied = engine.time(images(1), limits, boundary="engine+copies")
    assert copied.arrays["latency"][3] == pytest.approx(2.2) and copied.arrays["h2d"][3] == pytest.approx(0.1)
    assert len(copied.latency) == 20 and copied.notes == ("CUDA graph",)
    lasting = engine.sustain(images(1), 0.05, window_s=0.02, keep=100, between=lambda passed: None)
    assert lasting.queries >= len(lasting.latency) and lasting.notes[0] == "CUDA graph"
    engine.close()
    assert cuda.live() == 0


def test_a_foreign_engine_and_full_memory_are_told(trt: Any, cuda: Any, tmp_path: Path) -> None:
    """With what it means, here, and with the library's words for the host, from a device."""
    with pytest.raises(
        EngineError, match=r"plan cannot be loaded by tensorrt 10\.3\.0: .*another version of"
    ) as caught:
        _open(tmp_path, cuda, b"of another version")
    assert "Version tag does not match" in caught.value.said[0] and "--force build" in caught.value.fix
    sent = {**failure(job_error(caught.value)), "seconds": 1.0, "log": ""}
    told = job_failed(Device("ssh://orin"), read(Failure, json.dumps(sent).encode()))
    assert told.what.count("another version of TensorRT") == 1 and "--force build" in told.fix
    with pytest.raises(EngineError, match="out of memory") as caught:
        cuda.made("cudaMalloc", 1 << 33)
    assert caught.value.kind == "memory" and job_error(caught.value).kind == "memory"
