"""Protects: every CUDA call that an engine makes exists in the bindings under that name."""

from __future__ import annotations

import inspect
import re

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
