"""What a host asks of the agent, as typed values: host and agent read the same definitions.

They are JSON on the wire. An agent serves the host that brought it, so both are of one version.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence, TypedDict

Answer = Mapping[str, object]
"""What goes back as JSON; the host checks it (`pipeline.devices.messages`, `pipeline.devices.results`)."""


class Event(TypedDict, total=False):
    """What a job says while it works: progress (done, total, note), or a line of a library's log."""

    progress: Sequence[int | str]
    log: str


Emit = Callable[[Event], None]


# Operations


class Introduce(TypedDict):
    """Who the host is: `session`, and what is for people."""

    owner: Mapping[str, object]


class Have(TypedDict):
    """Is the file with this sha256 there?"""

    digest: str


class Put(TypedDict):
    """Raw bytes of a file follow, from `offset` to `size`."""

    id: int
    digest: str
    offset: int
    size: int


class OfJob(TypedDict):
    """About one job, by its folder's name."""

    job: str


class Start(OfJob):
    """Start a job; `name` is which, `tie` how it hangs on the connection."""

    name: str
    request: Mapping[str, Any]
    tie: str


class Attach(OfJob):
    """Follow a job's events from `offset`."""

    id: int
    offset: int


class Fetch(OfJob):
    """Send an output file of a job, from `offset`."""

    id: int
    name: str
    offset: int


class Close(TypedDict):
    """The host is done; keep so many bytes of files."""

    keep: int


class Clean(TypedDict):
    """Remove everything; with `force`, also what another host runs."""

    force: bool


# Jobs


class Blob(TypedDict):
    """A file of images that is on the device: its sha256, and how many images it has."""

    blob: str
    count: int


class Transform(TypedDict):
    """How float images are made of uint8 ones, by channel: (x / 255 - mean) / std."""

    mean: list[float]
    std: list[float]


class GraphInput(TypedDict):
    """The input of an engine; `shape` is that of one image."""

    name: str
    dtype: str
    shape: list[int | str]


class DialectFlags(TypedDict):
    """What the agent needs of the dialect of a version of TensorRT."""

    strong_typing: bool
    tactic_dram: bool
    progress_monitor: bool
    timing_cache: bool
    optimization_level: bool
    compute_capabilities: bool
    weak_flags: list[str]
    fp32_layers: list[str]


class TrtexecBuild(TypedDict):
    """trtexec on the device, and its arguments for a build."""

    path: str
    build: list[str]


class TrtexecUse(TypedDict):
    """trtexec on the device, and its arguments for inference and for timing, by boundary."""

    path: str
    infer: list[str]
    time: dict[str, list[str]]


class BuildOptions(TypedDict, total=False):
    """Keys of a target that the job `build` takes by the same names."""

    workspace_mb: int | None
    tactic_dram_mb: int | None
    optimization_level: int | None
    strong_typing: bool
    threads: int | None
    power_mode: str
    compute_capabilities: list[str]


class BuildRequest(BuildOptions, total=False):
    """Of the job `build`; `onnx` is the digest of the file, `name` that of the engine file.

    `access` is how the back end is used: `onnxruntime`, `python` (TensorRT's or TensorRT-RTX's Python API) or
    `trtexec`.
    """

    id: str
    backend: str
    access: str
    onnx: str
    name: str
    batch_sizes: list[int]
    dialect: DialectFlags
    trtexec: TrtexecBuild
    timing_cache: str


class LoadOptions(TypedDict, total=False):
    """How ONNX Runtime runs an engine."""

    threads: int | None
    spinning: bool
    denormals_as_zero: bool


class EngineSpec(LoadOptions, total=False):
    """How the agent loads an engine (`engines.open_engine`); `file` is the digest of its file, `access` as above."""

    id: str
    backend: str
    access: str
    file: str
    batch_sizes: list[int]
    input: GraphInput
    trtexec: TrtexecUse


class InferRequest(TypedDict):
    """Of the job `infer`.

    `image` is [H, W, 3]; `transform` is None where the graph takes the uint8 images themselves; `repeat` is how often
    the first image is put in one batch, or run, to see that rows agree (0: not at all); `discard` removes the parts
    afterwards, where the disk does not hold them all.
    """

    engine: EngineSpec
    parts: list[Blob]
    image: list[int]
    transform: Transform | None
    repeat: int
    discard: bool


class Case(TypedDict):
    """What is timed; `engine` is an id."""

    name: str
    engine: str
    batch: int
    boundary: str


class InOneMode(TypedDict, total=False):
    """The power mode that a measurement holds; None or absent: the one that the device is in."""

    power_mode: str | None


class TimeRequest(InOneMode):
    """Of the job `time`; times in s, `encoded` are digests of image files for `image_to_class`, `preprocessing` is how
    one becomes an input (as a bundle's preprocess.json); `parts`, `image` and `transform` as in `InferRequest` are the
    images that are shown; `max_load` and `agree` as in `export.runtime.turns.in_rounds`; `memory`: measure it."""

    engines: list[EngineSpec]
    cases: list[Case]
    parts: list[Blob]
    image: list[int]
    transform: Transform | None
    encoded: list[str]
    preprocessing: dict[str, Any]
    warmup_s: float
    min_samples: int
    min_seconds: float
    max_seconds: float
    rounds: int
    max_load: float
    agree: float
    sustained_s: float
    energy_s: float
    memory: bool


class ReleaseRequest(TypedDict, total=False):
    """Of the job `release`; `root` is the folder of the releases, empty for the usual one.

    `do` is `missing`: which files of the bundle `release` (sha256 of its manifest), with its `signatures` (name to
    sha256), are neither among what was sent nor in a release, the manifest alone if it is not there; `install`: the
    same, and `arguments` for the program; `command`: `arguments`, the first of which is the program's command.
    """

    root: str
    do: str
    release: str
    signatures: dict[str, str]
    arguments: list[str]
