"""The few CUDA runtime calls that running an engine takes, through ctypes: a Jetson has no CUDA package for Python.

Signatures are those of CUDA 11.4 to 13; `cudaGraphInstantiateWithFlags` is used because plain
`cudaGraphInstantiate` changed its signature in 12.0, and device attributes because `cudaDeviceProp` changed too.
"""

from __future__ import annotations

import ctypes
import glob
import os
import sys
from typing import Any, Callable, Sequence

from .batches import numpy
from .errors import JobError

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
    "cudaMemGetInfo": (ctypes.POINTER(_size), ctypes.POINTER(_size)),
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


class Cuda:
    """The loaded library."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self._library = _load(names)
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self._library.cudaGetErrorString.argtypes = (_int,)
        for name, arguments in SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, _int

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            JobError: CUDA reports an error.
        """
        status = getattr(self._library, name)(*arguments)
        if status:
            text = self._library.cudaGetErrorString(status)
            reason = text.decode() if text else f"error {status}"
            fix = "free memory on the device" if status == 2 else "see the device's GPU driver (dmesg)"
            raise JobError(f"CUDA failed in {name}: {reason}", fix, "memory" if status == 2 else "failed")

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

    def device_count(self) -> int:
        """Number of CUDA devices; 0 where there is no driver."""
        count = _int(0)
        return int(count.value) if not self._library.cudaGetDeviceCount(ctypes.byref(count)) else 0

    def compute_capability(self) -> tuple[int, int]:
        """(major, minor) of device 0."""
        values = []
        for attribute in (_MAJOR, _MINOR):
            value = _int(0)
            self.call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
            values.append(int(value.value))
        return values[0], values[1]

    def forget_error(self) -> None:
        """Clear the error that a failed capture leaves behind."""
        self._library.cudaGetLastError()


class Buffer:
    """Pinned host memory as an array, and as much device memory."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: str) -> None:
        np = numpy()
        self._cuda = cuda
        self.nbytes = max(1, int(np.prod(shape, dtype="int64")) * np.dtype(dtype).itemsize)
        self.device = cuda.made("cudaMalloc", self.nbytes)
        try:
            self._pinned = cuda.made("cudaMallocHost", self.nbytes)
        except JobError:
            cuda.call("cudaFree", self.device)
            raise
        raw = (ctypes.c_ubyte * self.nbytes).from_address(self._pinned)
        self.host = np.frombuffer(raw, dtype, int(np.prod(shape, dtype="int64"))).reshape(shape)

    def upload(self, stream: int) -> None:
        """Queue a copy to the device."""
        self._cuda.call("cudaMemcpyAsync", self.device, self._pinned, self.nbytes, HOST_TO_DEVICE, stream)

    def download(self, stream: int) -> None:
        """Queue a copy from the device."""
        self._cuda.call("cudaMemcpyAsync", self._pinned, self.device, self.nbytes, DEVICE_TO_HOST, stream)

    def close(self) -> None:
        """Free both; the array must not be used any more."""
        self._cuda.call("cudaFree", self.device)
        self._cuda.call("cudaFreeHost", self._pinned)


def new_stream(cuda: Cuda) -> int:
    """A stream that does not wait for the default one."""
    return cuda.made("cudaStreamCreateWithFlags", _NON_BLOCKING)


def new_event(cuda: Cuda) -> int:
    """An event that takes time stamps."""
    return cuda.made("cudaEventCreateWithFlags", 0)


def elapsed_ms(cuda: Cuda, earlier: int, later: int) -> float:
    """Milliseconds between two complete events."""
    value = ctypes.c_float()
    cuda.call("cudaEventElapsedTime", ctypes.byref(value), earlier, later)
    return float(value.value)


def capture(cuda: Cuda, stream: int, enqueue: Callable[[], None]) -> int:
    """What `enqueue` queues on `stream`, as an executable graph; launch it with `cudaGraphLaunch`."""
    cuda.call("cudaStreamBeginCapture", stream, _THREAD_LOCAL)
    try:
        enqueue()
    finally:  # even after a failure, else the stream stays unusable
        graph = cuda.made_last("cudaStreamEndCapture", stream)
    executable = cuda.made("cudaGraphInstantiateWithFlags", graph, 0)
    cuda.call("cudaGraphDestroy", graph)
    return executable


def _load(names: Sequence[str]) -> Any:
    failure = ""
    for name in names:
        for path in [name, *_found(name)]:
            try:
                return ctypes.CDLL(path)
            except OSError as error:
                failure = failure or str(error)
    raise JobError(
        f"the CUDA runtime library cannot be loaded on the device: {failure}", install_fix(), "missing"
    )


def _found(name: str) -> list[str]:
    """Files of a name where CUDA is installed to, by its own installer first, then by pip for this Python."""
    system = [f"{folder}/{name}" for folder in FOLDERS]
    places = [glob.escape(place) for place in sys.path if place]
    wheels = [os.path.join(place, wheel, name) for place in places for wheel in WHEELS]
    return [path for pattern in (*system, *wheels) for path in sorted(glob.glob(pattern))]


def install_fix(root: str = "/") -> str:
    """How the CUDA runtime gets onto this device: a Jetson has it from its JetPack, a desktop from pip."""
    if os.path.exists(os.path.join(root, "etc/nv_tegra_release")):
        return "sudo apt install nvidia-jetpack on the device"
    return (
        f"on the device: {sys.executable} -m pip install nvidia-cuda-runtime (CUDA 13; nvidia-cuda-runtime-cu12 for "
        "CUDA 12), or put libcudart.so where the linker finds it"
    )
