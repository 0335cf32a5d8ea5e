"""What TensorRT's, its parser's and CUDA's messages mean, and what to do: the one table for every way to TensorRT.

Engines that are built on this machine and engines that a device builds (through Python or through trtexec) fail with
the same texts. Whoever hears them passes them on as they are; here they are understood. The texts are those of
TensorRT 7 to 11 and of the Jetson's driver, as the library writes them and as people reported them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_REPLACE = (
    "use a network without this operator, or run this target with engine: onnxruntime; the supported operators are "
    "listed in the documentation of NVIDIA's ONNX parser"
)
_FREE = (
    "free memory: close other programs (on a Jetson also its desktop: sudo systemctl isolate multi-user.target); for "
    "TensorRT lower workspace_mb, and tactic_dram_mb where version 10 or later builds through its Python API"
)
_SWAP = "a 4 GB swap file helps where CPU and GPU share the memory"
_DRIVER = (
    "update the NVIDIA driver: CUDA 13 needs 580 or later, CUDA 12 needs 525 or later; a Jetson's comes with its "
    "JetPack"
)
_REBUILD = "build it again on the machine that runs it (--force build)"
_LAYOUT = "build from the INT8 file made for TensorRT"
_REINSTALL = (
    "install TensorRT completely: on a Jetson sudo apt install nvidia-jetpack, elsewhere pip install tensorrt; a "
    "library in a folder of its own must be in LD_LIBRARY_PATH"
)
_INTERNAL_WORKSPACE = r"insufficient workspace|sufficient workspace memory|increas\w+ (the )?workspace size"
_MEMORY = "memory"


@dataclass(frozen=True)
class Remedy:
    """One row of the table.

    Attributes:
        pattern: occurs in a message; case does not count.
        means: what it means, in a few words.
        fix: what to do about it.
        kind: `memory` where memory ran out, else `failed`.
        follows: the message is what follows from something else, which may have been said elsewhere.
    """

    pattern: re.Pattern[str]
    means: str
    fix: str
    kind: str
    follows: bool


def _row(pattern: str, means: str, fix: str, kind: str = "failed", *, follows: bool = False) -> Remedy:
    return Remedy(re.compile(pattern, re.IGNORECASE), means, fix, kind, follows)


REMEDIES: tuple[Remedy, ...] = (
    # What the graph is, or for whom it was made.
    _row(
        r"FP32 GEMM is not supported",
        "Turing (SM75) takes no FP32",
        "build it from the FP16 file, apart from the others",
    ),
    _row(r"HW-specific datatypes: b16", "Turing (SM75) has no BF16", "build it from the FP16 file"),
    _row(r"non-zero zero point|has type Int32", "the file has ONNX Runtime's INT8 layout", _LAYOUT),
    _row(
        r"plugin not found|getPluginCreator|could not find plugin|importFallbackPluginImporter"
        r"|operator is not supported|no importer registered",
        "TensorRT has no such operator",
        _REPLACE,
    ),
    _row(
        r"shape ?tensor|kSHAPE\b|graphShapeAnalyzer|shapes decided at run time",
        "the graph computes shapes while it runs",
        "export with a fixed batch: export.dynamic_batch: false and batch_sizes: [1]; if it stays, "
        + _REPLACE,
    ),
    # Which GPU, which driver.
    _row(
        r"insufficient ?driver|driver version is insufficient|CUDA initialization failure with error:? 35\b",
        "the GPU's driver is too old for this CUDA",
        _DRIVER,
    ),
    _row(
        r"CUDA initialization failure with error:? (100|38)\b|no CUDA-capable device|cudaErrorNoDevice",
        "there is no NVIDIA GPU that CUDA can use",
        "run on a machine with an NVIDIA GPU and its driver; in a container, start it with --gpus all "
        "(on a Jetson --runtime nvidia)",
    ),
    _row(
        r"CUDA initialization failure with error:? 803\b|system has unsupported display driver",
        "the driver's kernel module and its libraries are of different versions",
        "reboot after the driver was updated",
    ),
    _row(
        r"NvRmMem\w* ?failed|Memory Manager Not supported",
        "this user may not use the Jetson's GPU",
        "sudo usermod -aG video,render USER on the device, log in again, and run again",
    ),
    _row(
        r"unsupported SM\b|GPU SM \d+ is not supported",
        "this version of TensorRT has no kernels for this GPU",
        "install a version that has: a newer one for a newer GPU, 8.6 for Pascal; or engine: onnxruntime",
    ),
    _row(
        r"unknown embedded device",
        "this version of TensorRT does not know this Jetson module",
        "update the device's JetPack",
    ),
    # Memory, before what follows from its lack.
    _row(
        r"\bkilled\b|\b(code|status) 137\b|oom-?kill|signal 9\b",
        "Linux ends a process so when memory is out",
        f"{_FREE}; {_SWAP}",
        _MEMORY,
    ),
    _row(
        r"NvMapMem\w*:.*\berror 12\b",
        "the memory that the Jetson's CPU and GPU share is full or in pieces",
        f"{_FREE}; {_SWAP}; if there is memory, reboot the device: what is free may lie in pieces",
        _MEMORY,
    ),
    _row(
        r"out ?of ?memory|memory allocation|MEM_ALLOC_FAILED|bad_alloc|cannot allocate memory|allocator error"
        r"|requested (amount of GPU memory|size was)|could not be allocated|insuff?icient (GPU )?memory"
        r"|memory is insufficient|CUDA initialization failure with error:? 2\b",
        "memory ran out",
        f"{_FREE}; {_SWAP}",
        _MEMORY,
    ),
    _row(
        r"no space left on device|disk quota exceeded", "the disk is full", "free some space, and run again"
    ),
    # Kernels.
    _row(
        rf"{_INTERNAL_WORKSPACE}|bytes of scratch space",
        "a layer's kernels need more scratch memory than workspace_mb allows",
        "raise workspace_mb, or leave it out",
    ),
    _row(
        r"could not find any implementation",
        "no kernel fits this layer",
        "raise workspace_mb or leave it out; if it stays, this layer has no kernel at this precision on this GPU: "
        "keep it out of it (precision.exclude for INT8), or build another precision",
        follows=True,
    ),
    # Libraries.
    _row(
        r"libnvinfer_lean",
        "the lean runtime is not installed",
        "set version_compatible: false",
    ),
    _row(
        r"libnvdla_compiler",
        "a library of the Jetson is missing, or this is a container without it",
        "sudo apt install nvidia-l4t-dla-compiler on the device; start a container with --runtime nvidia",
    ),
    _row(
        r"libcudart\.so",
        "the CUDA runtime is not installed",
        "pip install nvidia-cuda-runtime (CUDA 13) or nvidia-cuda-runtime-cu12; on a Jetson sudo apt install "
        "nvidia-jetpack",
    ),
    _row(r"libcuda\.so|\blibcuda\b", "there is no NVIDIA driver", "install an NVIDIA driver"),
    _row(
        r"(libnvinfer|libnvonnxparser|libcudnn|libcublas)\w*\.so",
        "a library of TensorRT is missing",
        _REINSTALL,
    ),
    _row(
        r"unknown option: ",
        "trtexec is of another version than it says",
        "give trtexec and TensorRT the same version on the device",
    ),
    # Engine files.
    _row(
        r"version tag does not match|serialized engine version|(std|safe)VersionRead"
        r"|not compatible with this version of TensorRT",
        "the engine was built by another version of TensorRT",
        _REBUILD,
    ),
    _row(
        r"incompatible device|expecting compute \d|platform specific tag",
        "the engine was built on another kind of GPU or system",
        _REBUILD,
    ),
    _row(
        r"magic ?tag",
        "the file is no engine of this library, or is damaged",
        _REBUILD,
    ),
    _row(r"deserializ", "the engine cannot be read", _REBUILD, follows=True),
    # What is left of CUDA.
    _row(
        r"illegal memory access|illegal ?address|unspecified launch failure|cudaErrorLaunchFailure",
        "the engine failed on the GPU",
        f"see dmesg for the driver's words, update TensorRT, or {_REBUILD}",
    ),
    _row(
        r"CUDA initialization failure|cudaErrorUnknown|cudaErrorInitializationError",
        "CUDA cannot be started",
        "reboot, and see whether nvidia-smi (on a Jetson tegrastats) works; in a container, whether it has the GPU",
    ),
)
"""First match wins: what a thing is before what follows from it."""


def remedy(*texts: str) -> Remedy | None:
    """The first row that fits any of `texts`; None where nothing is known."""
    said = "\n".join(texts)
    return next((row for row in REMEDIES if row.pattern.search(said)), None)


def understood(said: Iterable[str], beside: Iterable[str] = ()) -> Remedy | None:
    """The row for a failure; None where nothing is known.

    Args:
        said: the messages of the failure.
        beside: warnings, and what the driver wrote meanwhile: a lack of memory there is the cause of a failure whose
            own messages tell none, or only what followed.
    """
    found = remedy(*said)
    if found is None or found.follows:
        cause = remedy(*beside)
        if cause is not None and cause.kind == _MEMORY:
            return cause
    return found


def with_meaning(what: str, found: Remedy | None) -> str:
    """A message with what it means, where that is known."""
    return what if found is None else f"{what} (this means: {found.means})"


@dataclass(frozen=True)
class Skipped:
    """Kernels (tactics) that a builder could not try.

    Attributes:
        tactics: how many, at least.
        largest_mb: the most memory that one of them asked for, MiB; 0 where it was not said.
        by_workspace: the limit was `workspace_mb`, not the memory that was free.
    """

    tactics: int
    largest_mb: int = 0
    by_workspace: bool = False


# Most are said twice: that a request is too large, and that the tactic is skipped for it.
_REQUEST = re.compile(r"tactic device request: (\d+) ?MB", re.IGNORECASE)
_SKIPPING = re.compile(r"skipping tactic\b", re.IGNORECASE)
_FOR_MEMORY = re.compile(
    r"insuff?icient memory|out ?of ?memory|allocator error|could not be allocated|allocation", re.IGNORECASE
)
_WORKSPACE = re.compile(_INTERNAL_WORKSPACE, re.IGNORECASE)
_SIZE = re.compile(r"requested size of (\d+)|error allocating (\d+)-byte", re.IGNORECASE)
_MOST_MB = 1 << 24


def skipped_tactics(lines: Iterable[str]) -> Skipped | None:
    """What a builder's log says of tactics that it skipped because memory did not suffice; None where it skipped none.

    A tactic that is skipped for another reason has its cause elsewhere and does not count.
    """
    requests = skipped = largest = 0
    workspace = False
    for line in lines:
        if found := _REQUEST.search(line):
            requests += 1
            largest = max(largest, int(found.group(1)[:9]))
        if _SKIPPING.search(line) and _FOR_MEMORY.search(line):
            skipped += 1
            # Versions before 8.2 say MiB here, and on the line before: what is less than one is not read as bytes.
            if found := _SIZE.search(line):
                largest = max(largest, int((found.group(1) or found.group(2))[:18]) >> 20)
        workspace = workspace or bool(_WORKSPACE.search(line))
    count = max(requests, skipped, int(workspace))
    return Skipped(count, min(largest, _MOST_MB), workspace and not (requests or skipped)) if count else None
