"""One row of a result's table of engines."""

from __future__ import annotations

from typing import Any, Literal

from pipeline.config.metrics import METRICS
from pipeline.results.choice import Judged, Ratio, Rival
from pipeline.results.composition import Composition, Outlook
from pipeline.results.evidence import Part, Standing
from pipeline.results.latency import Latency
from pipeline.results.network import Accuracy

EngineState = Literal["ran", "built", "missing", "failed"]


class FloatLayer(Part):
    """A layer of an INT8 graph that stays in floating point."""

    name: str
    op: str
    macs_percent: float
    """Its share of the multiply-accumulates."""


class Int8Share(Part):
    """How much of an INT8 graph is INT8, counted in its Q/DQ ONNX file."""

    layers: int
    """Convolutions and matrix products."""
    int8_layers: int
    macs: int
    """Multiply-accumulates of one image; 0 where shapes are unknown."""
    int8_macs: int
    depthwise_macs: int
    quantize: int
    """QuantizeLinear nodes of activations."""
    dequantize: int
    float_layers: list[FloatLayer] = []
    """The largest layers that stay in floating point."""
    operators: dict[str, int] = {}
    """Operators that ONNX Runtime's CPU really runs, after its fusions, with their counts."""


class Energy(Part):
    """Energy of one engine, measured beside all timing, at the first batch size."""

    source: str
    """Sensor or counter."""
    covers: str
    """Parts of the machine whose energy it is."""
    mj_per_image: float
    """Millijoules of one image above what the idle machine takes in that time."""
    mj_per_image_total: float
    """The same with what the idle machine takes."""
    idle_w: float
    """Of the idle machine, W."""
    load_w: float
    """While the engine ran, W."""
    images: int | None = None
    """How many the engine ran; null where a device did."""
    seconds: float | None = None
    """For how long."""
    n: int
    """Readings."""


class SkippedTactics(Part):
    """Kernels that TensorRT's builder left out for lack of memory: the engine may be slower than it could be."""

    tactics: int
    """How many, at least."""
    largest_mb: int = 0
    """The most memory that one of them asked for, MiB; 0 where the builder did not say."""
    by_workspace: bool = False
    """`workspace_mb` was the limit, not the memory that was free."""


class TriedThreads(Part):
    """A number of CPU threads that an engine was tried with."""

    threads: int
    times: Ratio
    """How many times as long it takes as with the number that was chosen."""


class Engine(Part):
    """One row of the table."""

    id: str
    target: str
    backend: str
    precision: str
    compute_capability: str
    state: EngineState
    """`ran`: built, validated and timed here. `built`: built and inspected, could not run here."""
    detail: str
    """What the back end said: why the engine does not run here, or of how it was built. Empty where it said nothing."""
    fix: str
    """What to do about it."""
    onnx: str
    onnx_mb: float | None
    """MB of 10^6 bytes; null where the file could not be made, which `detail` explains."""
    engine_mb: float | None
    """MB of 10^6 bytes."""
    build_seconds: float | None
    accuracy: Accuracy | None
    standing: Standing | None = None
    """Null where the engine did not answer the test images itself."""
    drop: float | None
    """Top-1 of the torch student minus this, percentage points."""
    latency: list[Latency]
    speedup: Ratio | None = None
    """Median latency of this target's FP32 engine over this one's; above 1 is faster."""
    rival: Rival | None = None
    """For INT8 engines that ran: the fastest engine of another precision. Its `times`: how many times as long this one
    takes as the rival."""
    int8: Int8Share | None = None
    """For INT8 engines."""
    composition: Composition = Composition()
    """For TensorRT: what the parsed `network` and the built `engine` consist of."""
    outlook: Outlook | None = None
    """For INT8 engines of TensorRT: what their layers let expect against FP16's; null where nothing speaks against
    INT8, or the layers are not known."""
    skipped_tactics: SkippedTactics | None = None
    """Null where TensorRT's builder left out no kernel."""
    runtime: dict[str, Any] = {}
    """How it was timed, such as `providers` and `threads`."""
    threads_tried: list[TriedThreads] = []
    """Other numbers of CPU threads, which were not faster than `runtime.threads`; empty where the config says how
    many."""
    energy: Energy | None = None
    """Null where the machine does not tell; the result's `machine` says why."""
    budgets: list[Judged]
    file: str | None = None
    """Engine file, relative to the report."""
    device: str = ""
    """Where it was built and run, in words; empty for this machine."""
    qad: bool = False
    """Built from an INT8 file that quantisation-aware distillation has fine-tuned."""

    def latency_at(self, boundary: str = "engine") -> Latency | None:
        """The row that budgets are judged at: the first batch size, one inference after the other."""
        return next((row for row in self.latency if row.boundary == boundary and row.plain), None)

    @property
    def within_budget(self) -> bool:
        """Nothing is missed, and nothing that has a goal is unknown."""
        return all(judged.verdict == "pass" for judged in self.budgets)

    @property
    def has_goal(self) -> bool:
        """Whether a budget says how good the answers must be, whatever the student's are."""
        return any(judged.goal == "min" and METRICS[judged.metric].absolute for judged in self.budgets)
