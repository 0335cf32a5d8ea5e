"""The part of a deploy config that says where engines are built and how they are timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from export.engine_kinds import ENGINE_KINDS
from pipeline.config.bounds import (
    BatchSize,
    Count,
    FilePath,
    Megabytes,
    Seconds,
    SomeSeconds,
    Threads,
)
from pipeline.config.section import Section

Precision = Literal["fp32", "fp16", "bf16", "int8"]
if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = Literal[tuple(ENGINE_KINDS)]
Boundary = Literal["engine", "engine+copies", "image_to_class"]


PowerMode = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=64)]
"""Name of a mode in /etc/nvpmodel.conf."""


class Remote(Section):
    """How an `ssh://` device is reached, and what is allowed there. None of this changes a result."""

    folder: Annotated[str, Field(max_length=1_024)] = ""
    """The only folder on the device that is touched; `~/` is its user's home. Default: `~/.cache/figkd-device`."""
    ssh_config: FilePath | None = None
    """An OpenSSH client config to use instead of your own (relative to where the command runs)."""
    python: Annotated[str, Field(max_length=1_024)] = "python3"
    """Python on the device, 3.8 or later. For ONNX Runtime in a virtual environment: that one's, such as
    `~/venv/bin/python`."""
    keep_mb: Annotated[int, Field(ge=0, le=1_000_000_000)] = 4000
    """How much of what was sent may stay on the device for the next run, in MB (10^6 bytes). The oldest is removed
    first."""
    wait_s: Seconds = 600
    """How long to wait while another host uses the device, in s."""
    silence_s: Annotated[float, Field(ge=2, le=604_800)] = 20
    """If the device does not answer for so long, in s, the connection is made again."""
    job_s: Annotated[float, Field(gt=0, le=604_800)] = 86_400
    """Longest time of a build or a measurement on the device, in s. After that it is given up."""


class Target(Section):
    """One kind of engine on one device."""

    engine: EngineName
    """Back end that runs the engine."""
    device: Annotated[str, Field(max_length=512)] = "local"
    """`local`, or `ssh://[user@]host[:port]`; the host may be a `Host` of your ssh config."""
    remote: Remote = Remote()
    """For `ssh://` devices."""
    power_mode: PowerMode | None = None
    """On a Jetson: the mode of `nvpmodel` to build and measure in, by its name, such as `15W` (also for `MODE_15W`).
    Afterwards the earlier mode is set again. Needs the right to set it. Default: the current mode, which the report
    names."""
    power_modes: Annotated[list[PowerMode], Field(min_length=1, max_length=8)] | None = None
    """On a Jetson: measure every engine in each of these modes, such as `[15W, 25W]`. Engines are built and budgets
    judged in `power_mode`, which must be one of them; without it, in the first. Afterwards the earlier mode is set
    again."""
    precisions: Annotated[list[Precision], Field(max_length=16)] | None = None
    """Precisions to build here. Default: all of `precision.modes`."""
    batch_sizes: Annotated[list[BatchSize], Field(min_length=1, max_length=64)] = [1]
    """Batch sizes that the engine accepts and that are timed. Budgets are judged at the first."""
    compute_capabilities: Annotated[list[str], Field(max_length=64)] | None = None
    """For `tensorrt_rtx`: GPUs to build for, such as `SM86`. Default: SM86, SM89, SM120."""
    threads: Threads | None = None
    """CPU threads of ONNX Runtime. Default: one or all cores for each engine, whichever is measured to be faster."""
    spinning: bool = True
    """ONNX Runtime's threads wait for work in a loop: faster alone, slower where other programs need the cores."""
    denormals_as_zero: bool = False
    """ONNX Runtime treats denormal numbers, which are slow on some CPUs, as zero. It holds for the whole process."""
    workspace_mb: Megabytes | None = None
    """Largest scratch memory of TensorRT's kernels, in MiB."""
    tactic_dram_mb: Megabytes | None = None
    """Largest memory that TensorRT may use to try a kernel while it builds, in MiB. Default: the library's; on a
    Jetson 75 % of the memory that CPU and GPU share. Lower it if a build is killed there."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    """TensorRT's builder optimization level: a higher one tries more kernels and takes longer."""
    strong_typing: bool = True
    """Every layer of TensorRT has the precision that the ONNX file gives. false: a fallback for TensorRT 10 and
    older, which may then choose among the precisions in the file."""
    version_compatible: bool = False
    """Make TensorRT engines that also load in later versions. They are larger and sometimes slower."""
    hardware_compatibility: Literal["none", "same_compute_capability", "ampere_plus"] = "none"
    """Make TensorRT engines for more than one model of GPU. `same_compute_capability`: all GPUs with this one's
    compute capability (TensorRT 10.9 and later). `ampere_plus`: Ampere and later. The wider, the slower. Not on a
    Jetson."""
    strip_weights: bool = False
    """Leave the weights out of the engine file. When the engine is loaded, they are read from an ONNX file beside
    it."""
    required: bool = True
    """false: if the back end is missing, the run reports it and does not fail."""


class Benchmark(Section):
    """How latency is measured (trtexec's terms)."""

    boundaries: Annotated[list[Boundary], Field(min_length=1, max_length=16)] = [
        "engine",
        "engine+copies",
        "image_to_class",
    ]
    """`engine`: inference alone. `engine+copies`: with the copies of input and output. `image_to_class`: from a test
    image's file to its class (decode, resize, inference, argmax), by the code of a bundle; data without files is
    encoded as JPEGs of the stored size."""
    warmup_ms: Annotated[float, Field(ge=0, le=604_800_000)] = 200
    """Warm-up before the first sample, in ms."""
    min_samples: Count = 1000
    """Fewest samples of an engine, batch size and boundary. A p99 needs 1,000."""
    min_seconds: Seconds = 3.0
    """Shortest time spent on each, in s."""
    max_seconds: SomeSeconds = 10.0
    """Longest time spent on each, in s, even if `min_samples` is not reached."""
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Engines take turns in this many rounds, so that a disturbance affects all of them. A 95 % interval of
    differences between rounds needs 6."""
    streams: Annotated[list[Threads], Field(min_length=1, max_length=64)] = [1]
    """Numbers of concurrent inferences to measure, at the first batch size; 1 is always measured. Budgets are judged
    at 1."""
    rate_fps: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Also measure with images that arrive at this fixed rate, as from a camera: whether the engine keeps up, the
    share of late images, and the p99."""
    rate_seconds: SomeSeconds | None = None
    """How long that takes per engine, in s. Default: as long as 1,000 images, which a p99 needs."""
    sustained_s: Annotated[float, Field(ge=0, le=7200)] = 0
    """On `ssh://` devices: also run each engine for so long without a pause, in s, to see whether it slows down as
    the device warms up. Use 300 or more. 0: do not. Not for targets of this machine."""
    energy_s: Seconds = 5.0
    """How long an engine runs, apart from all timing, to measure its energy, in s. The machine idles for as long
    before. 0: do not. Without a sensor, nothing is run."""
