"""Protects: every CUDA call that an engine makes exists in the bindings under that name."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest

from export.engines import cuda
from export.errors import BackendMissing, EngineError

no_gpu = pytest.mark.skipif(cuda.device_count() > 0, reason="there is a GPU")


def test_the_bindings_have_every_name() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    source = inspect.getsource(cuda)
    calls = set(re.findall(r'call\(\s*"(cuda\w+)"', source)) | set(re.findall(r"\brt\.(cuda\w+)", source))
    assert len(calls) > 15
    assert [name for name in sorted(calls) if not hasattr(runtime, name)] == []
    members = set(re.findall(r"runtime\(\)\.(cuda\w+)\.(cuda\w+)", source))
    assert members
    assert [pair for pair in sorted(members) if not hasattr(getattr(runtime, pair[0]), pair[1])] == []


@no_gpu
def test_without_a_gpu_each_resource_fails_with_the_cuda_error() -> None:
    assert cuda.device_count() == 0 and "CUDA" in cuda.probe()[1]
    for make in (
        cuda.Stream,
        cuda.Event,
        lambda: cuda.Buffer((2, 3), np.dtype(np.float32)),
        cuda.compute_capability,
        cuda.device_name,
    ):
        with pytest.raises((EngineError, BackendMissing), match="CUDA"):
            make()


def test_missing_bindings_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise BackendMissing("the CUDA bindings for Python cannot be imported", "pip install cuda-python")

    monkeypatch.setattr(cuda, "runtime", absent)
    count, reason = cuda.probe()
    assert count == 0 and "pip install cuda-python" in reason


@no_gpu
def test_the_bindings_take_the_arguments_that_are_passed() -> None:
    """The real bindings, which convert arguments before they ask for a driver: a wrong type would raise TypeError.

    Handles are plain integers here, as `Stream`, `Event` and `Buffer` keep them.
    """
    runtime = pytest.importorskip("cuda.bindings.runtime")
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    up = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
    major = runtime.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor
    graph, executable = (
        runtime.cudaGraph_t(),
        runtime.cudaGraphExec_t(),
    )  # kept as the objects that calls return
    calls: dict[str, tuple[Any, ...]] = {
        "cudaGetDeviceProperties": (0,),
        "cudaDeviceGetAttribute": (major, 0),
        "cudaRuntimeGetVersion": (),
        "cudaMalloc": (64,),
        "cudaMallocHost": (64,),
        "cudaFree": (0,),
        "cudaFreeHost": (0,),
        "cudaMemcpyAsync": (0, 0, 64, up, 0),
        "cudaStreamCreateWithFlags": (1,),
        "cudaStreamDestroy": (0,),
        "cudaStreamSynchronize": (0,),
        "cudaStreamBeginCapture": (0, mode),
        "cudaStreamEndCapture": (0,),
        "cudaGraphInstantiate": (graph, 0),
        "cudaGraphDestroy": (graph,),
        "cudaGraphLaunch": (executable, 0),
        "cudaGraphExecDestroy": (executable,),
        "cudaEventCreateWithFlags": (0,),
        "cudaEventRecord": (0, 0),
        "cudaEventSynchronize": (0,),
        "cudaEventElapsedTime": (0, 0),
        "cudaEventDestroy": (0,),
    }
    used = set(re.findall(r'call\(\s*"(cuda\w+)"', inspect.getsource(cuda)))
    assert used == set(calls)
    for name, arguments in calls.items():
        try:
            status, *_ = getattr(runtime, name)(*arguments)
        except RuntimeError as error:  # where not even the CUDA runtime is installed
            pytest.skip(f"the bindings cannot be called here: {error}")
        assert isinstance(status, runtime.cudaError_t), name
