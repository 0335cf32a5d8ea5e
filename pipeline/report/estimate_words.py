"""Estimates in words: a table of steps, the total, and how far off it was afterwards."""

from __future__ import annotations

from pipeline.core.layout import Column, Grid
from pipeline.report import numbers
from pipeline.results.estimate import Estimate, Off

_COLUMNS = (
    Column("step"),
    Column("time", right=True),
    Column("disk", right=True, said="{} of disk"),
    Column("memory", right=True, said="{} of memory"),
    Column("from", said="{}"),
)


def table(estimate: Estimate) -> Grid:
    """What each step will take."""
    return Grid(
        _COLUMNS,
        [
            (
                step.step,
                "unknown" if step.seconds is None else numbers.seconds(step.seconds),
                numbers.size(step.disk_bytes or None),
                numbers.size(step.memory_bytes),
                step.source,
            )
            for step in estimate.steps
        ],
    )


def total(estimate: Estimate) -> str:
    """Time, disk and memory of all steps, and what they leave out."""
    if not estimate.steps:
        return "nothing has to run"
    least = "at least " if estimate.unknown else ""
    said = (
        f"{least}{numbers.seconds(estimate.seconds)}, {numbers.size(estimate.disk_bytes)} of disk, "
        f"{numbers.size(estimate.memory_bytes or None)} of memory"
    )
    if estimate.unknown:
        said += f"; not known: {', '.join(estimate.unknown)}"
    if estimate.factor != 1.0:
        said += (
            f"; with what earlier runs of this store took over their estimates ({estimate.factor:.2f} times)"
        )
    if estimate.other_cores:
        said += f"; measured while others used {estimate.other_cores:.1f} CPU cores: on a quiet machine it takes less"
    return said


def off(found: Off) -> str:
    """How far an estimate was off, of the steps that it was made for."""
    sign = "+" if found.percent >= 0 else numbers.MINUS
    said = (
        f"{numbers.seconds(found.took_s)} in {len(found.steps)} steps, {numbers.seconds(found.foreseen_s)} were "
        f"estimated ({sign}{abs(found.percent):.0f} %)"
    )
    foreseen, took = found.disk
    said += f"; disk {numbers.size(took)}, estimated {numbers.size(foreseen)}"
    foreseen, took = found.memory
    if took and foreseen:
        said += f"; memory {numbers.size(took)}, estimated {numbers.size(foreseen)}"
    worst = max(found.steps.items(), key=lambda each: abs(each[1][1] - each[1][0]))
    return (
        f"{said}; furthest off: {worst[0]}, {numbers.seconds(worst[1][1])} for {numbers.seconds(worst[1][0])}"
    )
