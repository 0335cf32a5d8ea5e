"""The engines' registry: one entry a back end, each behind `export.engines.protocol.Backend`."""

from __future__ import annotations

from export.engines.onnxruntime import OnnxRuntimeBackend
from export.engines.protocol import Availability, Backend, Engine, EngineInfo, Samples
from export.engines.tensorrt import TensorRTBackend

BACKENDS: dict[str, Backend] = {
    "onnxruntime": OnnxRuntimeBackend(),
    "tensorrt": TensorRTBackend("tensorrt"),
    "tensorrt_rtx": TensorRTBackend("tensorrt_rtx"),
}
"""Name to back end. Importing this module loads no engine library."""

__all__ = ["BACKENDS", "Availability", "Backend", "Engine", "EngineInfo", "Samples"]
