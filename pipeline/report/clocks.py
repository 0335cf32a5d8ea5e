"""What the views say of clocks: one line for each target, the same in each."""

from __future__ import annotations

from pipeline.report import numbers
from pipeline.results.clocks import Clock, Clocks
from pipeline.results.result import Result


def lines(result: Result) -> list[str]:
    """A line for each target whose clocks were read and are worth a word."""
    found = ((target, line(clocks)) for target, clocks in result.clocks.items())
    return [f"{target}: {text}" for target, text in found if text]


def line(clocks: Clocks) -> str:
    """Whether clocks were locked and how far they moved; empty where nothing can move the figures."""
    parts = []
    if clocks.gpu is not None:
        parts.append(_gpu(clocks.gpu))
    if clocks.memory is not None:
        state = {True: "memory locked at", False: "memory", None: "memory"}[clocks.memory.locked]
        parts.append(f"{state} {_range(clocks.memory)}")
    if clocks.governor and clocks.governor != "performance":
        cpu = f" {_range(clocks.cpu)}" if clocks.cpu else ""
        parts.append(f"CPU{cpu}, governor {clocks.governor}")
    if unsteady := [name for name, warm in clocks.warm_up.items() if not warm.steady]:
        parts.append(f"the GPU's clock did not settle in the warm-up of {', '.join(unsteady)}")
    if clocks.gpu is not None and clocks.gpu.locked is False:
        parts.append("run sudo jetson_clocks for steadier figures")
    return "; ".join(parts)


def _gpu(clock: Clock) -> str:
    if clock.locked:
        return f"clocks were locked: GPU {_range(clock)}"
    if clock.locked is None:  # NVML has no such question
        return f"GPU {_range(clock)} (whether it was locked cannot be read)"
    return f"clocks were not locked: GPU {_range(clock)}"


def _range(clock: Clock) -> str:
    low, high = numbers.count(clock.low), numbers.count(clock.high)
    limit = f" of at most {numbers.count(clock.limit)}" if clock.limit and clock.limit > clock.high else ""
    return f"{low if low == high else f'{low} to {high}'} MHz{limit}"
