"""`result.json`: the truth that every report is a view of. A documented, versioned schema.

Numbers carry their unit in their name or in the field's description; accuracies are percent of the test
set, latencies milliseconds. Fields that were not measured are null, never zero. Codes and numbers only: sentences are
the views', but for what a library, a device or an error said (`detail`, `fix`, `notes`, `failures`).
"""

from __future__ import annotations

from typing import Any, Literal

from pipeline.results.choice import Shipping
from pipeline.results.clocks import Clocks
from pipeline.results.data_summary import DataSummary
from pipeline.results.engine import Engine
from pipeline.results.evidence import Confusion, Load, Mistake, Part
from pipeline.results.network import Network
from pipeline.results.precision import FineTuning, PrecisionFile

SCHEMA_VERSION: Literal[2] = 2
"""Raised when a field changes its meaning; `pipeline.results.upgrade` reads the results of earlier ones."""

RunVerdict = Literal["pass", "no_goal", "not_run", "budget_missed", "no_better_than_guessing", "failed"]


class Result(Part):
    """Everything a run found out."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    created: str
    """UTC."""
    verdict: RunVerdict
    """`pass`: what ships meets every budget, an accuracy of its own (`min`) among them. `no_goal`: no budget says how
    accurate is good enough (`max_drop` compares the student with itself). `not_run`: no engine could run here.
    `no_better_than_guessing`: see `shipping`; never a pass, whatever the budgets say."""
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
