"""Clocks of the machine that a target was measured on: what was read, whether they were locked, and the warm-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from pipeline.results.evidence import Part


class Clock(Part):
    """One clock in MHz: before and after the measurement, and over all readings."""

    before: int
    after: int
    low: int
    high: int
    limit: int | None = None
    """The highest that it may take."""
    locked: bool | None = None
    """It could not change, as after `sudo jetson_clocks`; null where that cannot be read."""


class WarmUp(Part):
    """How an engine was warmed up before it was timed, beside the warm-up of each case."""

    seconds: float
    mhz: list[float]
    """The GPU's clock after each window of work."""
    steady: bool
    """The last three readings were within 2 % of each other."""


class Clocks(Part):
    """Of one target; what cannot be read is null."""

    gpu: Clock | None = None
    memory: Clock | None = None
    """EMC on a Jetson."""
    cpu: Clock | None = None
    governor: str = ""
    """Of the CPU's cores."""
    warm_up: dict[str, WarmUp] = Field(default_factory=dict)
    """By engine; empty where no clock can be read, and the fixed warm-up had to do."""


def summarise(readings: Sequence[Mapping[str, Any]], warm_up: Mapping[str, Any]) -> Clocks | None:
    """Clocks from readings in the order in which they were taken; None where none could be read.

    Args:
        readings: each with `gpu`, `memory` and `cpu` as far as they could be read (`export.runtime.readings.clocks`).
        warm_up: by engine.
    """
    found = {
        part: _clock([reading[part] for reading in readings if part in reading])
        for part in ("gpu", "memory", "cpu")
    }
    governors = [str(reading.get("cpu", {}).get("governor", "")) for reading in readings]
    if not any(found.values()) and not any(governors):
        return None
    warmed = {name: WarmUp.model_validate(facts) for name, facts in warm_up.items()}
    return Clocks(**found, governor=governors[-1], warm_up=warmed)


def clocks_of(machine: Mapping[str, Any], *, gpu: bool) -> Clocks | None:
    """Clocks in what the stage `benchmark` stored of a machine; None where there are none.

    Args:
        machine: its facts; earlier ones have no `clocks`.
        gpu: the engines run on the GPU; else its clocks and its memory's do not matter.
    """
    if not machine.get("clocks"):
        return None
    found = Clocks.model_validate(machine["clocks"])
    if gpu:
        return found
    return found.model_copy(update={"gpu": None, "memory": None}) if found.cpu or found.governor else None


def _clock(readings: Sequence[Mapping[str, Any]]) -> Clock | None:
    values = [int(reading["mhz"]) for reading in readings if "mhz" in reading]
    if not values:
        return None
    first, last = readings[0], readings[-1]
    # Locked between the readings is not locked: it must hold at both ends.
    ends = [_locked(first), _locked(last)]
    locked = None if None in ends else all(ends)
    return Clock(
        before=values[0],
        after=values[-1],
        low=min(values),
        high=max(values),
        limit=last.get("max_mhz"),
        locked=locked,
    )


def _locked(reading: Mapping[str, Any]) -> bool | None:
    if "locked" in reading:
        return bool(reading["locked"])
    if "min_mhz" in reading and "max_mhz" in reading:
        return bool(reading["min_mhz"] == reading["max_mhz"])
    return None
