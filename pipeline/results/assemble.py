"""From what the stages of a run found to its Result: judges budgets, chooses what ships, invents nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.engine_kinds import ENGINE_KINDS
from export.predictions import Predictions
from pipeline.config.schema import DeployConfig
from pipeline.results.budgets import choose, fastest_rival, judge, run_verdict, times
from pipeline.results.choice import Reason, Shipping
from pipeline.results.clocks import clocks_of
from pipeline.results.composition import Outlook, int8_outlook
from pipeline.results.data_summary import DataSummary
from pipeline.results.doubts import load_of
from pipeline.results.engine import Engine
from pipeline.results.evidence import Confusion, Load, Mistake, Standing
from pipeline.results.network import Network
from pipeline.results.precision import FineTuning, PrecisionFile
from pipeline.results.result import Result
from pipeline.results.standing import confusion, mistakes, standing


@dataclass(frozen=True)
class Answers:
    """The test images' classes and what each network and engine answered, by name (`teacher`, `student`, ids)."""

    labels: np.ndarray[Any, np.dtype[Any]]
    names: list[str]
    of: dict[str, Predictions]

    def standing(self, name: str) -> Standing | None:
        """How good the answers are; None where there are none."""
        if name not in self.of:
            return None
        teacher = None if name == "teacher" else self.of["teacher"].classes
        return standing(self.labels, self.of[name].classes, self.names, teacher)

    def mistakes(self, name: str) -> list[Mistake]:
        """The most confident wrong ones."""
        return mistakes(self.labels, self.of[name].classes, self.of[name].confidence, self.names)

    def confusion(self, name: str) -> Confusion | None:
        """Counts by true and given class, for the worst classes."""
        return confusion(self.labels, self.of[name].classes, self.names)


@dataclass(frozen=True)
class TargetFindings:
    """What was found of a target."""

    engines: list[Engine]
    """Not judged yet, nor compared."""
    machine: Mapping[str, Any]
    """Facts of the machine that it was measured on; empty where nothing was."""


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from."""

    created: str
    packages: dict[str, str]
    git: str
    steps: list[dict[str, Any]]
    """As `Result.steps`."""


@dataclass(frozen=True)
class Findings:
    """Everything that the stages of a run found."""

    answers: Answers
    data: dict[str, Any]
    your_data: DataSummary
    teacher: Network
    student: Network
    parity: list[dict[str, Any]]
    targets: Mapping[str, TargetFindings]
    """Of the config's targets, in their order; those whose steps failed have no engines."""
    qad: list[FineTuning]
    precisions: list[PrecisionFile]
    provenance: Provenance
    failures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Steps that failed, by id: `what`, `fix`, `exit_code`."""


def assemble(config: DeployConfig, found: Findings) -> Result:
    """Judge what was found and put it together; equal findings give equal results."""
    answers, student, teacher = found.answers, found.student, found.teacher
    student.standing, teacher.standing = answers.standing("student"), answers.standing("teacher")
    result = Result(
        name=config.name,
        created=found.provenance.created,
        verdict="not_run",
        shipping=[],
        data=found.data | {"class_names": answers.names},
        your_data=found.your_data,
        outputs=answers.names,
        teacher=teacher,
        student=student,
        parity=found.parity,
        engines=[],
        qad=found.qad,
        precisions=found.precisions,
        failures={step: dict(failure) for step, failure in found.failures.items()},
        steps=found.provenance.steps,
        machine={},
        packages=found.provenance.packages,
        git=found.provenance.git,
        config=config.model_dump(mode="json"),
    )
    for target, findings in found.targets.items():
        _add_machine(result, target, findings.machine, gpu=ENGINE_KINDS[config.targets[target].engine].gpu)
        load = result.loads.get(target)
        disturbed = load is not None and load.disturbed
        for row in findings.engines:
            row.standing = answers.standing(row.id)
            if row.accuracy is not None:
                row.drop = student.test.top1 - row.accuracy.top1
            row.budgets = judge(row, config.budgets, student.test, disturbed=disturbed)
        _compare(findings.engines)
        foretell(findings.engines)
        result.engines += findings.engines
        if failed := next((step for step in found.failures if step.endswith(f"@{target}")), None):
            reason = Reason(code="step_failed", about=failed)
            result.shipping.append(Shipping(target=target, engine=None, state="failed", reason=reason))
        else:
            select = config.precision.select
            result.shipping.append(choose(target, findings.engines, select, disturbed=disturbed))
    required = {name for name, target in config.targets.items() if target.required}
    result.verdict = run_verdict(
        result.engines, result.shipping, student, failures=found.failures, required=required
    )
    looked_at = next((s.engine for s in result.shipping if s.engine in answers.of), None) or "student"
    result.looked_at = looked_at
    result.mistakes, result.confusion = answers.mistakes(looked_at), answers.confusion(looked_at)
    return result


def _add_machine(result: Result, target: str, measured: Mapping[str, Any], *, gpu: bool) -> None:
    if clocks := clocks_of(measured, gpu=gpu):
        result.clocks[target] = clocks
    for mode, facts in measured.get("modes", {}).items():
        if clocks := clocks_of(facts, gpu=gpu):
            result.clocks[f"{target} in {mode}"] = clocks
    load: Load | None = load_of(measured)
    if load is not None:
        result.loads[target] = load
    if "device" in measured:
        result.devices[target] = dict(measured)
    else:
        result.machine = result.machine or dict(measured)


def _compare(rows: Sequence[Engine]) -> None:
    """Each engine that ran against FP32, and INT8 against the fastest other."""
    for row in (row for row in rows if row.state == "ran"):
        alike = [r for r in rows if r.state == "ran" and r.compute_capability == row.compute_capability]
        reference = next((r for r in alike if r.precision == "fp32" and r is not row), None)
        row.speedup = times(reference, row) if reference else None
        if row.precision == "int8":
            row.rival = fastest_rival(row, [r for r in alike if r.precision != "int8"])


def foretell(rows: Sequence[Engine]) -> None:
    """What the layers of each INT8 engine let expect against FP16's, else FP32's, of the same GPU."""
    for row in (row for row in rows if row.precision == "int8" and row.composition.engine):
        alike = [r for r in rows if r.compute_capability == row.compute_capability and r.composition.engine]
        rivals = {r.precision: r for r in alike}
        rival = rivals.get("fp16") or rivals.get("fp32")
        if rival is None or row.composition.engine is None or rival.composition.engine is None:
            continue
        if expect := int8_outlook(row.composition.engine, rival.composition.engine):
            row.outlook = Outlook(rival=rival.id, expect=expect)
