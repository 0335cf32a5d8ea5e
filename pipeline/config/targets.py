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
    """How an `ssh://` device is reached, and what is allowed there. Nothing of it changes a result."""

    folder: Annotated[str, Field(max_length=1_024)] = ""
    """The one folder on the device that is touched; `~/` is its user's home. Default: `~/.cache/figkd-device`."""
    ssh_config: FilePath | None = None
    """An OpenSSH client config to use instead of your own (relative to where the command runs)."""
    python: Annotated[str, Field(max_length=1_024)] = "python3"
    """Python there, 3.8 or later: for ONNX Runtime in a virtual environment, its `~/venv/bin/python`."""
    keep_mb: Annotated[int, Field(ge=0, le=1_000_000_000)] = 4000
    """How much of what was sent may stay there for the next run, in MB (10^6 bytes); the oldest goes first."""
    wait_s: Seconds = 600
    """How long to wait while another host works there, in s."""
    silence_s: Annotated[float, Field(ge=2, le=604_800)] = 20
    """A device that does not answer for this long is connected to again, in s."""
    job_s: Annotated[float, Field(gt=0, le=604_800)] = 86_400
    """A build or a measurement there that has not ended after so long is given up, in s."""


class Target(Section):
    """One kind of engine on one device."""

    engine: EngineName
    """Back end that runs the engine."""
    device: Annotated[str, Field(max_length=512)] = "local"
    """`local`, or `ssh://[user@]host[:port]`; the host may be a `Host` of your ssh config."""
    remote: Remote = Remote()
    """For `ssh://` devices."""
    power_mode: PowerMode | None = None
    """On a Jetson: the mode of `nvpmodel` to build and measure in, by its name, such as `15W`; put back afterwards.
    Needs the right to set it. Default: whatever mode it is in, which the report says."""
    power_modes: Annotated[list[PowerMode], Field(min_length=1, max_length=8)] | None = None
    """On a Jetson: measure every engine in each of these modes, such as `[15W, 25W]`. Engines are built in, and budgets
    judged at, `power_mode`, which must be one of them, else the first. The mode before is put back."""
    precisions: Annotated[list[Precision], Field(max_length=16)] | None = None
    """Precisions to build here. Default: all of `precision.modes`."""
    batch_sizes: Annotated[list[BatchSize], Field(min_length=1, max_length=64)] = [1]
    """Batch sizes that the engine accepts and that are timed; the first one is what budgets are judged at."""
    compute_capabilities: Annotated[list[str], Field(max_length=64)] | None = None
    """For `tensorrt_rtx`: GPUs to build for, such as `SM86`. Default: SM86, SM89, SM120."""
    threads: Threads | None = None
    """CPU threads of ONNX Runtime. Default: for each engine one or all cores, whichever is faster by measurement."""
    spinning: bool = True
    """ONNX Runtime's threads wait for work in a loop: faster alone, slower where others need the cores."""
    denormals_as_zero: bool = False
    """ONNX Runtime takes denormal numbers as zero, which are slow on some CPUs; counts for the whole process."""
    workspace_mb: Megabytes | None = None
    """Largest scratch memory of TensorRT's tactics, in MiB."""
    tactic_dram_mb: Megabytes | None = None
    """Largest memory that trying out one of TensorRT's kernels may take while building, in MiB. Default: the library's,
    on a Jetson 75 % of the memory that CPU and GPU share; lower it if building is killed there."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] = 3
    """TensorRT's builder optimization level: higher tries more kernels and builds longer."""
    strong_typing: bool = True
    """Every layer of TensorRT has the precision that the ONNX file says. false: a fallback for TensorRT 10 and older,
    which may then choose among the precisions in the file."""
    version_compatible: bool = False
    """TensorRT engines that load in later versions too; larger, sometimes slower."""
    hardware_compatibility: Literal["none", "same_compute_capability", "ampere_plus"] = "none"
    """TensorRT engines for more than one model of GPU. `same_compute_capability`: all GPUs of this one's (10.9 and
    later). `ampere_plus`: Ampere and later. Wider is slower; not on a Jetson."""
    strip_weights: bool = False
    """Leave the weights out of the engine; they are put back from an ONNX file beside it when it is loaded."""
    required: bool = True
    """false: a back end that is missing is reported, and does not fail the run."""


class Benchmark(Section):
    """How latency is measured (trtexec's terms)."""

    boundaries: Annotated[list[Boundary], Field(min_length=1, max_length=16)] = [
        "engine",
        "engine+copies",
        "image_to_class",
    ]
    """`engine`: inference alone. `engine+copies`: with input and output copies. `image_to_class`: decoding
    of a test image's file (a JPEG of the stored size where the data has no files), resize, inference, argmax, by the
    code that classifies in a bundle."""
    warmup_ms: Annotated[float, Field(ge=0, le=604_800_000)] = 200
    """Warm-up before the first sample, in ms."""
    min_samples: Count = 1000
    """Fewest samples of an engine, batch size and boundary; a p99 is refused below 1,000."""
    min_seconds: Seconds = 3.0
    """Least time spent on each."""
    max_seconds: SomeSeconds = 10.0
    """Most time spent on each, even if `min_samples` is not reached."""
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Engines take turns in this many rounds, so that a disturbance hits all alike. Below 6 there is no 95 % interval
    of what differs between rounds."""
    streams: Annotated[list[Threads], Field(min_length=1, max_length=64)] = [1]
    """Inferences at once, at the first batch size: each number is measured, 1 always. Budgets are judged at 1."""
    rate_fps: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Also measure with images that arrive at this rate and do not wait, as a camera's: is the rate kept, how many
    are late, what is the p99 then."""
    rate_seconds: SomeSeconds | None = None
    """Length of that measurement for an engine. Default: 1,000 images, which a p99 needs."""
    sustained_s: Annotated[float, Field(ge=0, le=7200)] = 0
    """On `ssh://` devices: also run each engine for so long without a pause, in s, to see whether it keeps its speed
    when the device gets warm. 300 and more are telling. 0: not. Targets of this machine have none."""
    energy_s: Seconds = 5.0
    """How long an engine runs, beside all timing, for its energy to be read; so long the machine idles before. 0: no.
    Nothing is run where the machine tells no energy."""
