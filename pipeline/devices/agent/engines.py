"""Which code runs an engine on the device; a new one is one entry here."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Protocol

from export.runtime.engine import Engine as InProcessEngine
from export.runtime.facts import EngineFacts
from export.runtime.sampling import Limits, Samples

from .blobs import blob
from .errors import JobError
from .requests import EngineSpec


class Engine(Protocol):
    """A loaded engine, as `export.runtime.onnx_session.OnnxRuntimeEngine` has it."""

    batch_sizes: tuple[int, ...]
    input_shape: tuple[int, ...]
    input_dtype: str
    facts: EngineFacts

    def run(self, images: Any) -> Any:
        """Logits [B, C] of one accepted batch."""
        ...

    def time(self, batch: Any, limits: Limits, *, boundary: str = "engine") -> Samples:
        """Time repeated inference of `batch`."""
        ...

    def sustain(
        self, batch: Any, seconds: float, *, window_s: float, keep: int, between: Callable[[float], None]
    ) -> Samples:
        """Minutes of the same."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class InProcess(Engine, InProcessEngine, Protocol):
    """One that runs in this process, so that a query is all that a call costs."""


def _onnxruntime(path: str, spec: EngineSpec) -> Engine:
    from export.runtime.onnx_session import load

    return load(
        path,
        threads=spec.get("threads"),
        spinning=spec.get("spinning", True),
        denormals_as_zero=spec.get("denormals_as_zero", False),
    )


def _python(path: str, spec: EngineSpec) -> Engine:
    from export.runtime.trt_engine import TensorRTEngine

    return TensorRTEngine(path, spec["backend"], spec["batch_sizes"])


def _trtexec(path: str, spec: EngineSpec) -> Engine:
    from .trtexec_engine import TrtexecEngine

    return TrtexecEngine(path, spec)


OPENERS: Mapping[str, Callable[[str, EngineSpec], Engine]] = {
    "onnxruntime": _onnxruntime,
    "python": _python,
    "trtexec": _trtexec,
}
"""Access method to opener. `python` is TensorRT's (or TensorRT-RTX's) Python API."""


def open_engine(folder: str, spec: EngineSpec) -> Engine:
    """Load the engine that `spec` describes.

    Raises:
        JobError: there is no such way to run one.
        ExportError: it cannot be loaded here.
    """
    opener = OPENERS.get(spec["access"])
    if opener is None:
        raise JobError(
            "this agent has no access method {!r}".format(spec["access"]), "use host and agent of one version"
        )
    return opener(blob(folder, spec["file"]), spec)


def in_process(engine: Engine) -> InProcess | None:
    """The engine if it runs in this process; None where each run starts a process of its own (trtexec)."""
    return None if getattr(engine, "starts_a_process", False) else engine  # type: ignore[return-value]
