"""`result.json`: the truth that every report is a view of. A documented, versioned schema.

Numbers carry their unit in their name or in the field's description; accuracies are percent of the test
set, latencies milliseconds. Fields that were not measured are null, never zero.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field

from pipeline.results.clocks import Clocks
from pipeline.results.composition import Composition, Outlook
from pipeline.results.data_summary import DataSummary
from pipeline.results.evidence import Confusion, Load, Mistake, Part, Standing

SCHEMA_VERSION = 1

EngineState = Literal["ran", "built", "missing", "failed"]
Verdict = Literal["pass", "miss", "not_judged"]
RunVerdict = Literal["pass", "no_goal", "not_run", "budget_missed", "no_better_than_guessing", "failed"]
_HOW_GOOD = frozenset({"top1", "top5", "mean_per_class", "worst_class"})
"""Metrics that say how good answers are; `agreement` compares the engine with its own network."""


class Epoch(Part):
    """One epoch of a training run."""

    epoch: int
    loss: float
    parts: dict[str, float] = {}
    """What the loss is the sum of, by name: means of the epoch, weights included. Empty where it is one part."""
    train_top1: float | None = None
    """Percent, on the augmented training images."""
    val_top1: float | None = None
    """Percent, on the validation images."""
    lr: float | None = None


class Accuracy(Part):
    """Accuracy on the test set, percent."""

    source: str
    """What computed the logits: `engine`, or the ONNX file in ONNX Runtime where the engine could not run."""
    n: int
    """Test images."""
    top1: float
    top5: float | None
    mean_per_class: float
    worst_classes: list[dict[str, Any]]
    """The five worst: `name`, `n`, `accuracy`."""
    confused: list[dict[str, Any]]
    """The most frequent mistakes: `true`, `predicted`, `count`."""
    agreement: float | None
    """Percent of images with the torch student's top-1."""
    finite: bool
    """All logits are finite numbers."""
    identical_rows: bool | None = None
    """One image, several times in a batch (or in a row, for a batch-1 engine), gets the same logits."""

    @property
    def worst_class(self) -> float:
        """Accuracy of the worst class, percent."""
        return float(self.worst_classes[0]["accuracy"])


class Latency(Part):
    """Latency of one engine, batch size and boundary, in trtexec's terms; ms unless said."""

    batch: int
    boundary: Literal["engine", "engine+copies", "image_to_class"]
    n: int
    """Samples."""
    min: float
    mean: float
    median: float
    p90: float
    p95: float
    p99: float | None
    """Null below 1,000 samples."""
    intervals: dict[str, tuple[float, float] | None] = {}
    """95 % confidence intervals of `median`, `p90`, `p95`, `p99`, distribution-free; null where samples are too few.
    The median's covers the differences between the rounds, too."""
    round_medians: list[float] = []
    """The median of each round; engines of a target took their turns side by side, so that rounds can be compared."""
    max: float
    std: float
    cv_percent: float
    """Standard deviation over mean, percent."""
    throughput: float
    """Images per second of wall time."""
    drift_percent: float | None
    """Median of the last third against the first third, percent."""
    outlier_percent: float | None = None
    """Samples above the third quartile + 3 interquartile ranges, percent."""
    streams: int = 1
    """Inferences at once."""
    rate_fps: float | None = None
    """Images arrived at this rate and did not wait; latency counts from the scheduled arrival. Null: a closed loop, an
    inference begins when the one before has ended."""
    power_mode: str = ""
    """Of a device that was measured in several modes; the rows that budgets are judged at come first. Empty: see the
    device's `power_mode`."""
    deadline_misses: int | None = None
    """Images that were not done when the next one arrived."""
    deadline_miss_percent: float | None = None
    """The same, percent of all."""
    keeps_rate: bool | None = None
    """The line of waiting images did not grow."""
    resolution_ms: float = 0.0
    """The steps in which the clock of the samples tells time; 0 where they are far below any latency."""
    warnings: list[str]
    samples: str
    """Name of the raw samples in the benchmark artifact's samples.npz."""
    histogram: list[tuple[float, int]] = []
    """(upper edge in ms, count) of the raw samples up to their 99th percentile, in bins of equal ratio."""
    median_of_parts_ms: dict[str, float] = {}
    """Medians of the parts, such as `decode` and `infer`."""

    @property
    def plain(self) -> bool:
        """One inference after the other."""
        return self.streams == 1 and self.rate_fps is None


class BenchmarkRow(Latency):
    """A latency row of `figkd-pipeline benchmark`."""

    id: str
    """Engine id, or the file as it was given."""
    disturbed: bool = False
    """Others were at work while it was timed."""


class BenchmarkDocument(Part):
    """What `figkd-pipeline benchmark --json` and `--output` write, and `--baseline` reads."""

    benchmark_version: Literal[1] = 1
    created: str
    """UTC."""
    latency: list[BenchmarkRow]
    comparison: list[dict[str, Any]] = []
    """Against the baseline: `change_percent` of the median with its interval, and the `judgement`: `regression`,
    `undecided` (it would be one, but one of the two measurements was disturbed), `slower`, `faster` or `noise`."""
    machine: dict[str, Any] = {}
    packages: dict[str, str] = {}
    outputs: list[str] = []
    """The class of each output of the engines, where it is known."""


class Judged(Part):
    """One budget applied to one engine."""

    metric: str
    goal: Literal["min", "max", "max_drop"]
    limit: float
    value: float | None
    """The metric; for `max_drop` the drop in percentage points."""
    verdict: Verdict
    margin: float | None
    """How much room is left; negative by how much it is missed."""
    scoped: bool = False
    """The goal names this engine's precision or target."""
    disturbed: bool = False
    """The value was measured while others were at work (see the target's entry in `loads`)."""


class Ratio(Part):
    """How many times as long one engine takes as another, from rounds in which they took turns."""

    ratio: float
    """Median over the rounds."""
    low: float
    """Lower end of its 95 % interval (of its range, below six rounds)."""
    high: float
    n: int
    """Rounds."""


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
    float_layers: list[dict[str, Any]] = []
    """The largest layers that stay in floating point: `name`, `op`, `macs_percent`."""
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
    load_w: float
    n: int
    """Readings."""


class SkippedTactics(Part):
    """Kernels that TensorRT's builder left out for want of memory: the engine may be slower than it could be."""

    tactics: int
    """How many, at least."""
    largest_mb: int = 0
    """The most memory that one of them asked for, MiB; 0 where the builder did not say."""
    by_workspace: bool = False
    """`workspace_mb` was the limit, not the memory that was free."""


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
    fix: str
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
    int8: Int8Share | None = None
    """For INT8 engines."""
    composition: Composition = Composition()
    """For TensorRT: what the parsed `network` and the built `engine` consist of."""
    outlook: Outlook | None = None
    """For INT8 engines of TensorRT: what their layers let expect against FP16's; null where nothing speaks against
    INT8, or the layers are not known."""
    skipped_tactics: SkippedTactics | None = None
    """Null where TensorRT's builder left no kernel out for want of memory."""
    runtime: dict[str, Any] = {}
    """How it was timed: `providers`, `threads`, and `threads_chosen`, the choice in words."""
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
        return any(judged.goal == "min" and judged.metric in _HOW_GOOD for judged in self.budgets)


class FineTuning(Part):
    """Quantisation-aware distillation of one INT8 file; what was not done is null."""

    onnx: str
    """Name of the file, as in an engine's `onnx`."""
    state: Literal["tuned", "not_needed", "no_better", "diverged"]
    """`tuned`: engines use the fine-tuned file. `not_needed`: within budget before. `no_better`: not kept. `diverged`:
    the fine-tuning ended without a result, for the reason `why`."""
    why: str = ""
    val_n: int
    """Validation images, on which the decision was made."""
    student_val: float
    """Top-1 of the torch student on them, percent."""
    val_before: float
    """Top-1 of the file before, percent of the validation images."""
    val_after: float | None = None
    """The same after."""
    drop_before: float | None = None
    """Top-1 of the torch student minus that of the file before, percentage points of the test set."""
    drop_after: float | None = None
    """The same after."""
    method: str | None = None
    epochs: int | None = None
    lr: float | None = None
    history: list[Epoch] = []


class KeptOut(Part):
    """Layers that are not in a file's precision, and why."""

    what: str
    """The rule's name, the group's, or the node's."""
    cause: Literal["rule", "config", "accuracy", "range"]
    """`rule`: a rule of docs/precision.md. `config`: `precision.exclude`. `accuracy`: taken out of INT8 because it
    cost more than the budget. `range`: FP16 cannot hold its values."""
    why: str
    products: int | None
    """Convolutions and products among them."""
    macs_percent: float | None
    """Their share of the network's multiply-adds."""


class Mixed(Part):
    """The search for what must leave INT8, on validation images; accuracies in percent."""

    n: int
    """Validation images."""
    max_drop: float
    """Loss that INT8 may have against FP32, percentage points."""
    fp32: float
    before: float
    """Top-1 with everything in INT8 that the rules allow."""
    after: float
    """Top-1 without what was taken out."""
    met: bool
    """The loss is within `max_drop`."""
    groups: int
    """Groups taken out."""
    macs_percent: float
    """Their share of the network's multiply-adds."""


class Int8Cpu(Part):
    """How an INT8 file for ONNX Runtime is stored, and for which CPUs (`export.cpu_layouts`)."""

    name: str
    """`u8s8`, `u8s8_7bit` or `s8s8`."""
    activations: str
    """`uint8` or `int8`; in graphs with attention they are `int8` in each layout."""
    weight_bits: int
    cpus: str
    because: str
    targets: list[str] = []
    """Whose CPU asked for it."""


class PrecisionFile(Part):
    """An ONNX file of one precision, as it was made before any fine-tuning."""

    onnx: str
    precision: str
    engines: list[str]
    """Back ends that read it."""
    mb: float
    """MB of 10^6 bytes."""
    top1: float | None
    """Percent of the test set, in ONNX Runtime (BF16: emulated there)."""
    int8_macs_percent: float | None = None
    """Share of the multiply-adds that are INT8."""
    calibration: str | None = None
    """How INT8 ranges were found, and on how many images."""
    kept_out: list[KeptOut] = []
    mixed: Mixed | None = None
    cpu: Int8Cpu | None = None
    """Of INT8 files for ONNX Runtime."""


class Network(Part):
    """Teacher or student."""

    model: str
    parameters: int
    test: Accuracy
    standing: Standing | None = None
    val_top1: float
    history: list[Epoch]
    method: str | None = None
    options: dict[str, Any] = {}
    wavelet_order: list[str] | None = Field(
        default=None, validation_alias=AliasChoices("wavelet_order", "class_order")
    )
    """The order in which the method's wavelet saw the classes while training. It is not that of the outputs, which
    the result's `outputs` tells. (Earlier results call it `class_order`.)"""


class Shipping(Part):
    """What to ship for one target."""

    target: str
    engine: str | None
    """Id of the engine; null if none can be recommended."""
    state: Literal["ship", "budget_missed", "no_better_than_guessing", "not_run", "failed"]
    """`no_better_than_guessing`: no engine is right more often than always answering the most frequent class."""
    why: str
    disturbed: bool = False
    """Times decided what ships, or that nothing does, and others were at work while they were measured."""


class Result(Part):
    """Everything a run found out."""

    schema_version: int = SCHEMA_VERSION
    name: str
    created: str
    """UTC."""
    verdict: RunVerdict
    """`pass`: what ships meets every budget, an accuracy of its own (`min`) among them. `no_goal`: no budget says how
    accurate is good enough (`max_drop` compares the student with itself). `not_run`: no engine could run here.
    `no_better_than_guessing`: see `shipping`; never a pass, whatever the budgets say."""
    summary: str
    shipping: list[Shipping]
    data: dict[str, Any]
    """`dataset`, `classes`, `counts`, `image_size`, `class_names`, `skipped`."""
    your_data: DataSummary | None = None
    """The data in numbers: classes, splits, sizes, copies, what is not used. Null in earlier results."""
    outputs: list[str] = []
    """The class of each output of the student and of every engine: `outputs[i]` names logit i."""
    teacher: Network
    student: Network
    parity: list[dict[str, Any]]
    """Checks of the ONNX file against torch: `what` (which images), `batch`, `n`, `max_abs` and `allowed` (logits),
    `cosine` (the smallest), `top1_agreement` (percent), `ok`."""
    engines: list[Engine]
    qad: list[FineTuning] = []
    """INT8 files that were judged for quantisation-aware distillation."""
    precisions: list[PrecisionFile] = []
    """The ONNX files that engines are built from."""
    loads: dict[str, Load] = {}
    """Of each target that was measured on this machine."""
    clocks: dict[str, Clocks] = {}
    """Of each target that was measured where clocks can be read; `TARGET in MODE` for further power modes."""
    looked_at: str = ""
    """Whose answers `mistakes` and `confusion` are of: an engine's id, or `student`."""
    mistakes: list[Mistake] = []
    """The most confident ones."""
    confusion: Confusion | None = None
    failures: dict[str, dict[str, Any]]
    """Steps that failed: `what`, `fix`, `exit_code`."""
    steps: list[dict[str, Any]]
    """Artifacts: `step`, `key`, `digest`, `created`, `seconds`, `bytes`."""
    machine: dict[str, Any]
    """This machine, where a target was measured on it."""
    devices: dict[str, dict[str, Any]] = {}
    """The device of each target that was measured on one: `device` (its name), `facts`, `power_mode`, readings `before`
    and `after`, `modes` (the same readings in further power modes), `temperatures_c` (zone to before, highest, after),
    `throttled`, `energy`, `sustained`, `golden`, `clock_skew_s`, `missing`."""
    packages: dict[str, str]
    git: str
    config: dict[str, Any]
    """The resolved config."""
