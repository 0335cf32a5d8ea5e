"""What the agent's jobs are asked for, as typed values; they become JSON on the wire."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


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


class DialectWords(TypedDict):
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
    """Of the job `build`; `onnx` is the digest of the file, `name` that of the engine file."""

    id: str
    backend: str
    road: str
    onnx: str
    name: str
    batch_sizes: list[int]
    dialect: DialectWords
    trtexec: TrtexecBuild
    timing_cache: str


class LoadOptions(TypedDict, total=False):
    """How ONNX Runtime runs an engine."""

    threads: int | None
    spinning: bool
    denormals_as_zero: bool


class EngineSpec(LoadOptions, total=False):
    """How the agent loads an engine (`agent.engines.open_engine`); `file` is the digest of its file."""

    id: str
    backend: str
    road: str
    file: str
    batch_sizes: list[int]
    input: GraphInput
    trtexec: TrtexecUse


class InferRequest(TypedDict):
    """Of the job `infer`; `image` is the shape of one, `repeat` how often the first one is shown again."""

    engine: EngineSpec
    parts: list[Blob]
    image: list[int]
    transform: Transform | None
    repeat: int
    discard: bool


class Case(TypedDict):
    """What is timed."""

    name: str
    engine: str
    batch: int
    boundary: str


class TimeRequest(TypedDict):
    """Of the job `time`; times in s, `encoded` are digests of JPEG files of `store_size` pixels a side."""

    engines: list[EngineSpec]
    cases: list[Case]
    parts: list[Blob]
    image: list[int]
    transform: Transform | None
    encoded: list[str]
    store_size: int
    image_size: int
    warmup_s: float
    min_samples: int
    min_seconds: float
    max_seconds: float
    rounds: int
    sustained_s: float
    energy_s: float
    power_mode: NotRequired[str | None]
