"""The stages in the order in which they run; a new one is one entry here and one module beside it."""

from __future__ import annotations

from pipeline.stages import (
    benchmark,
    build,
    data,
    distill,
    export,
    logits,
    precision,
    qad,
    report,
    teacher,
    validate,
)
from pipeline.stages.base import Stage

STAGES: tuple[Stage, ...] = (
    data.STAGE,
    teacher.STAGE,
    logits.STAGE,
    distill.STAGE,
    export.STAGE,
    precision.STAGE,
    qad.STAGE,
    build.STAGE,
    validate.STAGE,
    benchmark.STAGE,
    report.STAGE,
)
STAGE_NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)
REPORT = report.STAGE.name
