"""The ONNX files of each precision: what left it and why, and what was done about it. Parts of a result."""

from __future__ import annotations

from typing import Literal

from pipeline.results.evidence import Part
from pipeline.results.network import Epoch


class OutOfRange(Part):
    """What FP16 cannot hold of a node (`export.precision.half_range.Finding`)."""

    kind: Literal["overflow", "sum", "squares", "underflow", "weights"]
    tensor: str
    value: float
    """The magnitude that was found; for `weights` the change of the output, as a share of it."""


class KeptOut(Part):
    """Layers that are not in a file's precision, and why."""

    what: str
    """The rule's name, the group's, or the node's."""
    cause: Literal["rule", "config", "accuracy", "range"]
    """`rule`: a rule of docs/precision.md, by its name. `config`: `precision.exclude`. `accuracy`: taken out of INT8
    because it cost more than the budget. `range`: FP16 cannot hold its values."""
    divergence: tuple[float, float] | None = None
    """For `accuracy`: of the file's answers from FP32's, in nats, before and after."""
    range: OutOfRange | None = None
    """For `range`."""
    products: int | None
    """Convolutions and products among them."""
    macs_percent: float | None
    """Their share of the network's multiply-adds."""
    text: str = ""
    """From results of schema 1: the reason in words."""


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
    targets: list[str] = []
    """Whose CPU asked for it."""


class Calibration(Part):
    """How INT8 ranges were found."""

    method: Literal["minmax", "entropy", "percentile"]
    percentile: float | None = None
    images: int


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
    calibration: Calibration | None = None
    """Of INT8 files."""
    kept_out: list[KeptOut] = []
    mixed: Mixed | None = None
    cpu: Int8Cpu | None = None
    """Of INT8 files for ONNX Runtime."""


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
