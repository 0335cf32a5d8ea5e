"""The few CUDA runtime calls that running an engine takes, through ctypes: a Jetson has no CUDA package for Python.

Signatures are those of CUDA 11.4 to 13; `cudaGraphInstantiateWithFlags` is used because plain
`cudaGraphInstantiate` changed its signature in 12.0, and device attributes because `cudaDeviceProp` changed too.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import os
import sys
from typing import Any, Callable, Sequence

import numpy as np

from .arrays import Array
from .errors import BackendMissing, EngineError

NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
# What pip installs: nvidia/cu13/lib for CUDA 13, nvidia/cuda_runtime/lib before.
WHEELS = ("nvidia/cu1*/lib", "nvidia/cuda_runtime/lib")
FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/*/lib", "/usr/local/cuda-*/lib64")

_pointer, _size, _int, _uint = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint
_out = ctypes.POINTER(ctypes.c_void_p)
# Without argument types ctypes would cut pointers to 32 bits.
SIGNATURES = {
    "cudaGetDeviceCount": (ctypes.POINTER(_int),),
    "cudaDeviceGetAttribute": (ctypes.POINTER(_int), _int, _int),
    "cudaGetDeviceProperties": (_pointer, _int),
    "cudaRuntimeGetVersion": (ctypes.POINTER(_int),),
    "cudaMalloc": (_out, _size),
    "cudaFree": (_pointer,),
    "cudaMallocHost": (_out, _size),
    "cudaFreeHost": (_pointer,),
    "cudaMemcpyAsync": (_pointer, _pointer, _size, _int, _pointer),
    "cudaStreamCreateWithFlags": (_out, _uint),
    "cudaStreamSynchronize": (_pointer,),
    "cudaStreamDestroy": (_pointer,),
    "cudaEventCreateWithFlags": (_out, _uint),
    "cudaEventRecord": (_pointer, _pointer),
    "cudaEventSynchronize": (_pointer,),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _pointer, _pointer),
    "cudaEventDestroy": (_pointer,),
    "cudaStreamBeginCapture": (_pointer, _int),
    "cudaStreamEndCapture": (_pointer, _out),
    "cudaGraphInstantiateWithFlags": (_out, _pointer, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_pointer, _pointer),
    "cudaGraphDestroy": (_pointer,),
    "cudaGraphExecDestroy": (_pointer,),
    "cudaGetLastError": (),
}
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
_NON_BLOCKING, _THREAD_LOCAL = 1, 1
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, -Minor
# Larger than `cudaDeviceProp` of any version; its first 256 bytes are the name in all of them.
_PROPERTIES, _NAME = 1 << 14, 256
_SEE = "see the driver and the GPU's free memory"
_NO_GPU = "run engines on a machine with an NVIDIA GPU and its driver"


class Cuda:
    """The loaded library."""

    def __init__(self, library: Any) -> None:
        """Prepare a library that ctypes has loaded.

        Raises:
            BackendMissing: it lacks a function.
        """
        self._library = library
        try:
            for name, arguments in SIGNATURES.items():
                function = getattr(library, name)
                function.argtypes, function.restype = arguments, _int
            for name in ("cudaGetErrorName", "cudaGetErrorString"):
                function = getattr(library, name)
                function.argtypes, function.restype = (_int,), ctypes.c_char_p
        except AttributeError as error:
            raise BackendMissing(f"the CUDA runtime library is too old: {error}", install_fix()) from error

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            EngineError: CUDA reports an error.
        """
        status = getattr(self._library, name)(*arguments)
        if status:
            raise self.failure(name, status)

    def failure(self, name: str, status: int) -> EngineError:
        """The error for a call that returned `status`."""
        return EngineError(f"CUDA failed in {name}", _SEE, said=[self.error(status)])

    def error(self, status: int) -> str:
        """Name and text of a status."""
        parts = (self._library.cudaGetErrorName(status), self._library.cudaGetErrorString(status))
        return ": ".join(part.decode() for part in parts if part) or f"error {status}"

    def made(self, name: str, *arguments: Any) -> int:
        """Call a function whose first argument receives a handle or an address; returns that."""
        handle = ctypes.c_void_p()
        self.call(name, ctypes.byref(handle), *arguments)
        return int(handle.value or 0)

    def made_last(self, name: str, *arguments: Any) -> int:
        """As `made`, for a function whose last argument receives the handle."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        return int(handle.value or 0)

    def launcher(self, executable: int, stream: int) -> Callable[[], None]:
        """Launch a captured graph; looked up beforehand, because in timed loops the host's time counts."""
        function = self._library.cudaGraphLaunch

        def launch() -> None:
            status = function(executable, stream)
            if status:
                raise self.failure("cudaGraphLaunch", status)

        return launch

    def probe(self) -> tuple[int, str]:
        """Number of CUDA devices, and the reason if it is 0; never raises."""
        count = _int(0)
        status = self._library.cudaGetDeviceCount(ctypes.byref(count))
        if status:
            return 0, f"no CUDA device ({self.error(status)})"
        return int(count.value), "" if count.value else "no CUDA device"

    def device_count(self) -> int:
        """Number of CUDA devices; 0 where there is no driver."""
        return self.probe()[0]

    def compute_capability(self, device: int = 0) -> tuple[int, int]:
        """(major, minor) of a device.

        Raises:
            EngineError: there is no such device.
        """
        values = []
        for attribute in (_MAJOR, _MINOR):
            value = _int(0)
            self.call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, device)
            values.append(int(value.value))
        return values[0], values[1]

    def device_name(self, device: int = 0) -> str:
        """Name of a device.

        Raises:
            EngineError: there is no such device.
        """
        properties = ctypes.create_string_buffer(_PROPERTIES)
        self.call("cudaGetDeviceProperties", properties, device)
        return properties.raw[:_NAME].split(b"\0")[0].decode(errors="replace")

    def version(self) -> str:
        """Version of the CUDA runtime, such as `13.0`. Needs no driver."""
        number = _int(0)
        self.call("cudaRuntimeGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value // 10 % 100}"

    def forget_error(self) -> None:
        """Clear the error that a failed capture leaves behind."""
        self._library.cudaGetLastError()


@functools.lru_cache(maxsize=None)
def loaded() -> Cuda:
    """This machine's CUDA runtime.

    Raises:
        BackendMissing: it is not installed.
    """
    return Cuda(load())


def probe() -> tuple[int, str]:
    """Number of CUDA devices, and the reason if it is 0; never raises."""
    try:
        return loaded().probe()
    except BackendMissing as error:
        return 0, f"{error.what}; {error.fix}"


def version() -> str:
    """Version of the CUDA runtime, such as `13.0`; empty where there is none. Needs no driver."""
    try:
        return loaded().version()
    except (BackendMissing, EngineError):
        return ""


def required() -> Cuda:
    """This machine's CUDA runtime, with a device.

    Raises:
        BackendMissing: it is not installed, or there is no device.
    """
    found = loaded()
    count, reason = found.probe()
    if not count:
        raise BackendMissing(f"there is no GPU to use: {reason}", _NO_GPU)
    return found


class Buffer:
    """A pair of equal buffers: pinned host memory as an array, and device memory."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: str) -> None:
        self._cuda = cuda
        count = int(np.prod(shape, dtype="int64"))
        self.nbytes = max(1, count * np.dtype(dtype).itemsize)
        self.device = cuda.made("cudaMalloc", self.nbytes)
        try:
            self._pinned = cuda.made("cudaMallocHost", self.nbytes)
        except EngineError:
            cuda.call("cudaFree", self.device)
            raise
        raw = (ctypes.c_ubyte * self.nbytes).from_address(self._pinned)
        self.host: Array = np.ctypeslib.as_array(raw).view(dtype)[:count].reshape(shape)

    def upload(self, stream: int) -> None:
        """Queue a copy from host to device."""
        self._cuda.call("cudaMemcpyAsync", self.device, self._pinned, self.nbytes, HOST_TO_DEVICE, stream)

    def download(self, stream: int) -> None:
        """Queue a copy from device to host."""
        self._cuda.call("cudaMemcpyAsync", self._pinned, self.device, self.nbytes, DEVICE_TO_HOST, stream)

    def close(self) -> None:
        """Free both; the array must not be used afterwards."""
        self._cuda.call("cudaFree", self.device)
        self._cuda.call("cudaFreeHost", self._pinned)


class Stream:
    """A stream that does not wait for the default one."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle = cuda.made("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def synchronize(self) -> None:
        """Wait until everything queued is done."""
        self._cuda.call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        """Destroy the stream."""
        self._cuda.call("cudaStreamDestroy", self.handle)


class Event:
    """A timing event."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle = cuda.made("cudaEventCreateWithFlags", 0)

    def record(self, stream: Stream) -> None:
        """Queue the event."""
        self._cuda.call("cudaEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait, spinning, until the event is reached."""
        self._cuda.call("cudaEventSynchronize", self.handle)

    def since(self, earlier: Event) -> float:
        """Milliseconds from `earlier` to this event; both must be complete."""
        value = ctypes.c_float()
        self._cuda.call("cudaEventElapsedTime", ctypes.byref(value), earlier.handle, self.handle)
        return float(value.value)

    def close(self) -> None:
        """Destroy the event."""
        self._cuda.call("cudaEventDestroy", self.handle)


class Graph:
    """Work captured from a stream, launched as a whole."""

    def __init__(self, cuda: Cuda, stream: Stream, enqueue: Callable[[], None]) -> None:
        """Capture what `enqueue` queues on `stream`.

        Raises:
            EngineError: it cannot be captured.
        """
        self._cuda = cuda
        cuda.call("cudaStreamBeginCapture", stream.handle, _THREAD_LOCAL)
        graph = 0
        try:
            try:
                enqueue()
            finally:  # also after a failure, otherwise the stream stays unusable
                graph = cuda.made_last("cudaStreamEndCapture", stream.handle)
            self._executable = cuda.made("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            if graph:
                cuda.call("cudaGraphDestroy", graph)

    def launcher(self, stream: Stream) -> Callable[[], None]:
        """What queues the captured work on a stream."""
        return self._cuda.launcher(self._executable, stream.handle)

    def close(self) -> None:
        """Destroy the executable graph."""
        self._cuda.call("cudaGraphExecDestroy", self._executable)


def load(names: Sequence[str] = NAMES) -> Any:
    """The library as ctypes loads it, the first that there is of `names`.

    Raises:
        BackendMissing: there is none.
    """
    failure = ""
    for name in names:
        for path in [name, *_found(name)]:
            try:
                return ctypes.CDLL(path)
            except OSError as error:
                failure = failure or str(error)
    raise BackendMissing(f"the CUDA runtime library cannot be loaded: {failure}", install_fix())


def _found(name: str) -> list[str]:
    """Files of a name where CUDA is installed to, by its own installer first, then by pip for this Python."""
    system = [f"{folder}/{name}" for folder in FOLDERS]
    places = [glob.escape(place) for place in sys.path if place]
    wheels = [os.path.join(place, wheel, name) for place in places for wheel in WHEELS]
    return [path for pattern in (*system, *wheels) for path in sorted(glob.glob(pattern))]


def install_fix(root: str = "/") -> str:
    """How a machine gets the CUDA runtime: a Jetson from its JetPack, a desktop from pip."""
    if os.path.exists(os.path.join(root, "etc/nv_tegra_release")):
        return "sudo apt install nvidia-jetpack"
    return (
        f"{sys.executable} -m pip install nvidia-cuda-runtime (CUDA 13; nvidia-cuda-runtime-cu12 for "
        "CUDA 12), or put libcudart.so where the linker finds it"
    )
