"""Which code runs an engine on the device; a new road is one entry here."""

from __future__ import annotations

from typing import Any, Callable

from .batches import blob
from .errors import JobError


def _onnxruntime(path: str, spec: dict[str, Any]) -> Any:
    from .onnx_runtime import OrtEngine

    return OrtEngine(path, spec)


def _python(path: str, spec: dict[str, Any]) -> Any:
    from .tensorrt_api import TrtEngine

    return TrtEngine(path, spec)


def _trtexec(path: str, spec: dict[str, Any]) -> Any:
    from .trtexec import TrtexecEngine

    return TrtexecEngine(path, spec)


ROADS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "onnxruntime": _onnxruntime,
    "python": _python,
    "trtexec": _trtexec,
}
"""Road to opener. `python` is TensorRT's (or TensorRT-RTX's) Python API."""


def open_engine(folder: str, spec: dict[str, Any]) -> Any:
    """Load the engine that `spec` describes.

    An engine has `batch_sizes`, `input_shape`, `input_dtype`, `facts`, `run(batch)`, `time(batch, boundary, limits)`,
    `sustain(...)`, `loop(batch)` and `close()`.

    Raises:
        JobError: it cannot be loaded here.
    """
    road = ROADS.get(spec["road"])
    if road is None:
        raise JobError(
            "this agent knows no road {!r}".format(spec["road"]), "use host and agent of one version"
        )
    return road(blob(folder, spec["file"]), spec)
