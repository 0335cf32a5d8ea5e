"""The few CUDA runtime calls that running an engine takes, through `cuda.bindings.runtime` (no PyTorch)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from export.errors import BackendMissing, EngineError
from export.runtime.remedies import remedy, with_meaning

_INSTALL = "pip install cuda-python"
_SEE = "see the driver and the GPU's free memory"
_NON_BLOCKING = 1  # cudaStreamNonBlocking

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def runtime() -> Any:
    """The bindings module.

    Raises:
        BackendMissing: cuda-python is not installed.
    """
    try:
        from cuda.bindings import runtime as bindings
    except ImportError as error:
        raise BackendMissing(f"the CUDA bindings for Python cannot be imported: {error}", _INSTALL) from error
    return bindings


def call(name: str, *arguments: Any) -> Any:
    """Call a runtime function; its results without the status, alone if there is one.

    Raises:
        BackendMissing: cuda-python is absent.
        EngineError: CUDA reports an error; the message carries its name and the call's.
    """
    rt = runtime()
    try:
        status, *results = getattr(rt, name)(*arguments)
    except RuntimeError as error:  # the bindings raise this when a library or symbol cannot be loaded
        raise EngineError(f"CUDA is not usable here: {error}", "install an NVIDIA driver") from error
    if int(status) != 0:
        what = f"CUDA failed in {name}: {_error_name(rt, status)}"
        found = remedy(what)
        raise EngineError(with_meaning(what, found), found.fix if found else _SEE)
    return results[0] if len(results) == 1 else tuple(results)


def device_count() -> int:
    """Number of CUDA devices; 0 where there is no driver or no bindings."""
    return probe()[0]


def probe() -> tuple[int, str]:
    """Number of CUDA devices, and the reason if it is 0; never raises."""
    try:
        rt = runtime()
        status, count = rt.cudaGetDeviceCount()
    except BackendMissing as error:
        return 0, f"{error.what}; {error.fix}"
    except Exception as error:
        return 0, f"CUDA is not usable here: {error}"
    if int(status) != 0:
        return 0, f"no CUDA device ({_error_name(rt, status)})"
    return int(count), "" if count else "no CUDA device"


def version() -> str:
    """Version of CUDA that the bindings are for, such as `13.0`; empty where they are absent. Needs no driver."""
    try:
        number = int(call("cudaRuntimeGetVersion"))
    except (BackendMissing, EngineError):
        return ""
    return f"{number // 1000}.{number // 10 % 100}"


def compute_capability(device: int = 0) -> tuple[int, int]:
    """(major, minor) of a device.

    Raises:
        EngineError: there is no such device.
    """
    attributes = runtime().cudaDeviceAttr
    major = call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMajor, device)
    minor = call("cudaDeviceGetAttribute", attributes.cudaDevAttrComputeCapabilityMinor, device)
    return int(major), int(minor)


def device_name(device: int = 0) -> str:
    """Name of a device."""
    raw = call("cudaGetDeviceProperties", device).name
    return (raw.decode() if isinstance(raw, bytes) else str(raw)).rstrip("\0")


def forget_error() -> None:
    """Clear the error that a failed call left behind."""
    rt = runtime()
    rt.cudaGetLastError()


def _error_name(rt: Any, status: Any) -> str:
    try:
        text = rt.cudaGetErrorString(status)[1]
        name = getattr(status, "name", str(int(status)))
        return f"{name}: {text.decode() if isinstance(text, bytes) else text}"
    except Exception:
        return str(status)


class Buffer:
    """A pair of equal buffers: pinned host memory as a NumPy array, and device memory."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.nbytes = max(1, int(np.prod(shape, dtype=np.int64))) * dtype.itemsize
        self.device = int(call("cudaMalloc", self.nbytes))
        try:
            self._pinned = int(call("cudaMallocHost", self.nbytes))
        except EngineError:
            call("cudaFree", self.device)
            raise
        raw = (ctypes.c_ubyte * self.nbytes).from_address(self._pinned)
        self.host: Array = np.ctypeslib.as_array(raw).view(dtype)[: int(np.prod(shape))].reshape(shape)

    def upload(self, stream: int) -> None:
        """Queue a copy from host to device."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", self.device, self._pinned, self.nbytes, kind, stream)

    def download(self, stream: int) -> None:
        """Queue a copy from device to host."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", self._pinned, self.device, self.nbytes, kind, stream)

    def close(self) -> None:
        """Free both; the host array must not be used afterwards."""
        call("cudaFree", self.device)
        call("cudaFreeHost", self._pinned)


class Stream:
    """A non-blocking stream."""

    def __init__(self) -> None:
        self._stream = call("cudaStreamCreateWithFlags", _NON_BLOCKING)
        self.handle = int(self._stream)

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        """Destroy the stream."""
        call("cudaStreamDestroy", self.handle)


class Event:
    """A timing event."""

    def __init__(self) -> None:
        self._event = call("cudaEventCreateWithFlags", 0)
        self.handle = int(self._event)

    def record(self, stream: Stream) -> None:
        """Queue the event."""
        call("cudaEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait, spinning, until the event is reached."""
        call("cudaEventSynchronize", self.handle)

    def since(self, earlier: Event) -> float:
        """Milliseconds from `earlier` to this event; both must be complete."""
        return float(call("cudaEventElapsedTime", earlier.handle, self.handle))

    def close(self) -> None:
        """Destroy the event."""
        call("cudaEventDestroy", self.handle)


class Graph:
    """Work captured from a stream, launched as a whole."""

    def __init__(self, stream: Stream, enqueue: Any) -> None:
        mode = runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", stream.handle, mode)
        try:
            enqueue()
        finally:
            # Ending the capture is needed even after a failure; otherwise the stream stays unusable.
            graph = call("cudaStreamEndCapture", stream.handle)
        self._executable = call("cudaGraphInstantiate", graph, 0)
        call("cudaGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        """Queue the captured work."""
        call("cudaGraphLaunch", self._executable, stream.handle)

    def launcher(self, stream: Stream) -> Callable[[], None]:
        """`launch` on one stream, looked up beforehand: in timed loops the host's time counts."""
        begin, executable, handle = runtime().cudaGraphLaunch, self._executable, stream.handle

        def launch() -> None:
            (status,) = begin(executable, handle)
            if int(status) != 0:
                raise EngineError(f"CUDA failed in cudaGraphLaunch: {_error_name(runtime(), status)}", _SEE)

        return launch

    def close(self) -> None:
        """Destroy the executable graph."""
        call("cudaGraphExecDestroy", self._executable)
