"""The stages by the names of `pipeline.stages.STAGE_NAMES`."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from pipeline.stages import STAGE_NAMES
from pipeline.stages.base import Stage

REPORT = "report"


def _stages() -> tuple[Stage, ...]:
    found: list[Stage] = []
    for name in STAGE_NAMES:
        stage: Stage = import_module(f"pipeline.stages.{name}").STAGE
        if name == REPORT:  # it reads, or at least lists, whatever was made before
            stage = replace(stage, inputs=tuple(each.name for each in found))
        found.append(stage)
    return tuple(found)


STAGES = _stages()
