"""Which code runs an engine on the device; a new one is one entry here."""

from __future__ import annotations

from typing import Any, Callable

from .blobs import blob
from .errors import JobError


def _onnxruntime(path: str, spec: dict[str, Any]) -> Any:
    from export.runtime.onnx_session import load

    return load(
        path,
        threads=spec.get("threads"),
        spinning=spec.get("spinning", True),
        denormals_as_zero=spec.get("denormals_as_zero", False),
    )


def _python(path: str, spec: dict[str, Any]) -> Any:
    from export.runtime.trt_engine import TensorRTEngine

    return TensorRTEngine(path, spec["backend"], spec["batch_sizes"])


def _trtexec(path: str, spec: dict[str, Any]) -> Any:
    from .trtexec_engine import TrtexecEngine

    return TrtexecEngine(path, spec)


ROADS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "onnxruntime": _onnxruntime,
    "python": _python,
    "trtexec": _trtexec,
}
"""Road to opener. `python` is TensorRT's (or TensorRT-RTX's) Python API."""


def open_engine(folder: str, spec: dict[str, Any]) -> Any:
    """Load the engine that `spec` describes.

    An engine has `batch_sizes`, `input_shape`, `input_dtype`, `facts`, `run(batch)`, `time(batch, ...)`,
    `sustain(batch, ...)`, `queries(batch)` and `close()`, as `export.runtime.onnx_session.OnnxRuntimeEngine`.

    Raises:
        JobError: there is no such way to run one.
        ExportError: it cannot be loaded here.
    """
    road = ROADS.get(spec["road"])
    if road is None:
        raise JobError(
            "this agent knows no road {!r}".format(spec["road"]), "use host and agent of one version"
        )
    return road(blob(folder, spec["file"]), spec)
