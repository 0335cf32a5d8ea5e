"""Power modes that a target asks for: which is built and judged in, and whether the device has them. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from export.runtime.readings import mode_key
from pipeline.config.problems import Problem
from pipeline.config.targets import Target


def judged_mode(target: Target) -> str | None:
    """The mode that engines are built in and budgets are judged at; None: whatever the device is in."""
    return target.power_mode or (target.power_modes[0] if target.power_modes else None)


def measured_modes(target: Target) -> list[str]:
    """Every mode to measure in, the judged one first; empty: whatever the device is in."""
    first = judged_mode(target)
    found: dict[str, str] = {}
    for mode in (*([first] if first else []), *(target.power_modes or ())):
        found.setdefault(mode_key(mode), mode)
    return list(found.values())


def contradictions(key: str, target: Target) -> Iterator[Problem]:
    """What `power_mode` and `power_modes` of a device say against each other; `key` is the target's."""
    modes = target.power_modes or []
    if len({*map(mode_key, modes)}) < len(modes):
        yield Problem(f"{key}.power_modes", "names a mode twice", "name each once", modes)
    if target.power_mode and modes and mode_key(target.power_mode) not in map(mode_key, modes):
        yield Problem(
            f"{key}.power_mode",
            "is not one of power_modes, and budgets are judged at it",
            f"name one of {', '.join(modes)}, or leave it out: the first one counts",
            target.power_mode,
        )


def refused(wanted: Sequence[str], facts: Mapping[str, Any]) -> tuple[str, str]:
    """What a device does not have of these modes, and the fix; empty if nothing, or if it does not tell its modes."""
    found = facts.get("power_mode") or {}
    if wanted and not found:
        return (
            "the device has no power modes",
            "remove power_mode and power_modes: there is no nvpmodel there",
        )
    known = {mode_key(str(name)) for name in found.get("available", ())}
    unknown = [mode for mode in wanted if known and mode_key(mode) not in known]
    if not unknown:
        return "", ""
    return f"the device has no power mode {unknown[0]!r}", f"it has {', '.join(found['available'])}"
