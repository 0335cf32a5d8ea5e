"""The learning rate of every step, as a function of the step alone: there is no state to save or to lose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from figkd.errors import TrainingError

ScheduleKind = Literal["cosine", "one_cycle", "step"]
# The literature's 240 epochs, decayed at 150, 180 and 210, as shares of any number of epochs.
STEP_AT = (0.625, 0.75, 0.875)


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule, in peaks.

    Attributes:
        kind: "cosine": warm up linearly, then half a cosine to 0. "one_cycle": up linearly for 25 % of the steps
            (or `warmup_epochs`, if given), down linearly to 0. "step": warm up, then times `step_factor` at the
            start of each epoch that `step_at` names.
        epochs: number of epochs.
        steps_per_epoch: optimizer steps in each.
        warmup_epochs: may be fractional.
        step_at: shares of the epochs, rounded to whole epochs.
        step_factor: for "step".

    Raises:
        TrainingError: unknown kind.
    """

    kind: ScheduleKind
    epochs: int
    steps_per_epoch: int
    warmup_epochs: float = 0.0
    step_at: Sequence[float] = STEP_AT
    step_factor: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleKind):
            raise TrainingError(
                f"unknown schedule {self.kind!r}", f"one of {', '.join(get_args(ScheduleKind))}"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def factor(self, step: int) -> float:
        """Learning rate of a step (from 0), as a share of the peak."""
        warmup = self.warmup_epochs * self.steps_per_epoch
        if self.kind == "one_cycle" and self.warmup_epochs == 0:
            warmup = 0.25 * self.steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.kind == "step":
            drops = (round(self.epochs * share) * self.steps_per_epoch for share in self.step_at)
            return float(self.step_factor ** sum(step >= drop for drop in drops))
        # 1 at the end of the warm-up; 0 would be reached one step after the last.
        left = min(1.0, (self.steps - step) / max(self.steps - warmup, 1.0))
        return left if self.kind == "one_cycle" else 0.5 - 0.5 * math.cos(math.pi * left)
