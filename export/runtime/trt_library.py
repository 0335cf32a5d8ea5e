"""The modules of TensorRT and TensorRT-RTX, what they say while they work, and why they fail."""

from __future__ import annotations

import contextlib
import gc
import importlib
import threading
from typing import Any, Callable, Iterator

from .errors import BackendMissing, EngineError
from .remedies import remedy

RTX = "tensorrt_rtx"
MODULES = {"tensorrt": ("tensorrt",), RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
INSTALL = {
    "tensorrt": "pip install tensorrt (desktop), or sudo apt install python3-libnvinfer (Jetson, its system Python)",
    RTX: "pip install tensorrt_rtx_cu13 nvidia-cuda-runtime (x86-64 Linux)",
}
DTYPES = {"UINT8": "uint8", "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
"""Members of the library's `DataType` to numpy's names."""
LAYERS_MARK = "Layers:\nName: "
"""How the message of TensorRT-RTX's builder begins that lists an engine's layers."""
_MOST_WARNINGS = 10_000
_SHOWN = 3
_holding = threading.Lock()
_holders, _was_on = 0, False


def library(backend: str) -> Any:
    """The module of `tensorrt` or `tensorrt_rtx`.

    Raises:
        BackendMissing: it is not installed or cannot be imported.
    """
    failure: Exception | None = None
    for name in MODULES[backend]:
        try:
            return importlib.import_module(name)
        except Exception as error:  # ImportError, or a missing shared library in whatever guise
            failure = failure or error
    if isinstance(failure, ModuleNotFoundError):
        raise BackendMissing(f"{backend} is not installed", INSTALL[backend])
    raise BackendMissing(f"{backend} cannot be imported: {failure}", INSTALL[backend])


@contextlib.contextmanager
def collector_held() -> Iterator[None]:
    """Within this block, Python's collector does not run; for calls in which the library logs.

    The library logs while it holds a lock. A collector that runs in the logger, or in another thread then, may find an
    old builder in a circle of objects. Its end waits for the lock, for ever.
    """
    global _holders, _was_on
    with _holding:
        if _holders == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _holders += 1
    try:
        yield
    finally:
        with _holding:
            _holders -= 1
            if _holders == 0 and _was_on:
                gc.enable()


def make_logger(trt: Any, emit: Callable[[str], None] | None = None) -> Any:
    """An `ILogger` that prints nothing.

    It keeps errors in `.errors`, the first warnings in `.warnings`, and the message with an engine's layers in
    `.layers`.

    Args:
        trt: the library.
        emit: receives errors and warnings when they come.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps what the library says of errors, warnings, and the layers that it built."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            kinds = trt.ILogger.Severity
            if severity in (kinds.ERROR, kinds.INTERNAL_ERROR):
                self.errors.append(message.strip())
            elif severity == kinds.WARNING:
                if len(self.warnings) < _MOST_WARNINGS:
                    self.warnings.append(message.strip())
            else:
                if message.startswith(LAYERS_MARK):
                    self.layers = message
                return
            if emit is not None:
                emit(message.strip())

    return Log()


def said(log: Any, otherwise: str = "the library gave no reason") -> list[str]:
    """Why the library failed, as a logger kept it; some versions say so in warnings only.

    Args:
        log: from `make_logger`.
        otherwise: where it says nothing.
    """
    return log.errors or [text for text in log.warnings if remedy(text)][-_SHOWN:] or [otherwise]


def failure(what: str, log: Any, fix: str) -> EngineError:
    """The error for what a library did not do: its reason, and the remedy for that.

    Args:
        what: what failed.
        log: from `make_logger`.
        fix: what to do where the reason is none that is known.
    """
    return EngineError(what, fix, said=said(log), beside=log.warnings)
