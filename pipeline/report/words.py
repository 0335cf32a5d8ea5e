"""Verdict, networks and the rest of a run in words: what the three views say alike."""

from __future__ import annotations

from collections.abc import Iterable

from export.proportions import wilson
from pipeline.report import numbers
from pipeline.results.choice import Shipping
from pipeline.results.engine import Engine
from pipeline.results.network import Accuracy, Network
from pipeline.results.result import Result

VERDICTS = {
    "pass": "Pass",
    "no_goal": "No goal set",
    "not_run": "Not judged",
    "budget_missed": "Budget missed",
    "no_better_than_guessing": "No better than guessing",
    "failed": "Failed",
}
SHIPPING = {
    "ship": "Ship",
    "budget_missed": "Nothing to ship: budget missed",
    "no_better_than_guessing": "Nothing to ship: no better than guessing",
    "not_run": "Not judged: nothing ran here",
    "failed": "Nothing to ship: failed",
}


def confidence(accuracy: Accuracy) -> float:
    """Half width of the 95 % Wilson score interval of a top-1 accuracy, percentage points."""
    low, high = wilson(accuracy.top1 / 100 * accuracy.n, accuracy.n)
    return 50 * (high - low) if accuracy.n else 100.0


def shipped(result: Result, shipping: Shipping) -> Engine | None:
    """The recommended engine of a target."""
    return next((e for e in result.engines if e.id == shipping.engine), None)


def method(network: Network) -> str:
    """How a network was trained: its distillation method and options in one line."""
    if network.method is None:
        return numbers.DASH
    options = ", ".join(f"{k} {v}" for k, v in network.options.items() if v is not None)
    return f"{network.method} ({options})" if options else network.method


def loss_parts(network: Network) -> str:
    """What a network's training loss was made of, in its first and last epoch; empty where it had one part."""
    with_parts = [epoch for epoch in network.history if epoch.parts]
    if not with_parts:
        return ""
    ends = with_parts[:1] if len(with_parts) == 1 else [with_parts[0], with_parts[-1]]

    def over(values: Iterable[float | None]) -> str:
        return " to ".join("not known" if value is None else f"{value:.3g}" for value in values)

    largest_first = sorted(ends[0].parts, key=lambda name: -ends[0].parts[name])
    rows = [f"{name} {over(epoch.parts.get(name) for epoch in ends)}" for name in largest_first]
    when = " to ".join(str(epoch.epoch) for epoch in ends)
    return (
        f"The student's mean training loss, epoch {when}: {over(epoch.loss for epoch in ends)}. "
        f"Its parts, weights included: {', '.join(rows)}."
    )


def classes(result: Result) -> int:
    """Number of classes."""
    given = result.data.get("classes", result.data.get("class_names", []))
    return len(given) if isinstance(given, list) else int(given)


def compared(result: Result) -> str:
    """Teacher and student in one sentence: size and top-1."""
    teacher, student = result.teacher, result.student
    behind = teacher.test.top1 - student.test.top1
    accuracy = f"{numbers.percent(abs(behind))} points {'behind' if behind >= 0 else 'ahead of'} the teacher in top-1"
    if student.parameters <= 0:
        return f"The student is {accuracy}."
    times = teacher.parameters / student.parameters
    share = f"{times:,.0f}" if times >= 10 else f"{times:.1f}"
    return f"The teacher has {share} times the student's parameters; the student is {accuracy}."


def skipped(result: Result) -> list[tuple[str, str]]:
    """Files that the data stage left out, with the reason."""
    rows = result.data.get("skipped", [])
    return [(f"{s.get('split', '')} {s.get('file', '')}".strip(), str(s.get("reason", ""))) for s in rows]


def total_seconds(result: Result) -> float:
    """Time of all steps together, whenever they ran."""
    return sum(float(s.get("seconds") or 0.0) for s in result.steps)
