"""What a run is expected to take, and how far off that was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.results.rows.row import Row


class StepEstimate(Row):
    """What a step is expected to take; None: nothing is known."""

    step: str
    seconds: float | None = None
    disk_bytes: int = 0
    memory_bytes: int | None = None
    source: str = "measured"
    """`measured`: rates of this machine. `earlier run`: this store's own. `config`: it says how long."""


class Estimate(Row):
    """Of the steps that will run."""

    steps: tuple[StepEstimate, ...]
    factor: float = 1.0
    """What earlier runs of this store took over their estimates; the seconds are multiplied by it already."""

    other_cores: float = 0.0
    """CPU cores that others used while it was measured; 0 where they hardly did."""

    @property
    def seconds(self) -> float:
        """Of all steps of which something is known."""
        return sum(step.seconds or 0.0 for step in self.steps)

    @property
    def disk_bytes(self) -> int:
        """Of all steps."""
        return sum(step.disk_bytes for step in self.steps)

    @property
    def memory_bytes(self) -> int:
        """The largest of all steps."""
        return max((step.memory_bytes or 0 for step in self.steps), default=0)

    @property
    def unknown(self) -> list[str]:
        """Steps of which nothing is known."""
        return [step.step for step in self.steps if step.seconds is None]


@dataclass(frozen=True)
class Off:
    """An estimate against the truth, of the steps that ran and were foreseen; seconds and bytes.

    Attributes:
        steps: for each its estimate and what it took, in s.
        disk: the same of all their artifacts, in bytes.
        memory: the same of the process's peak; 0 where it is not known.
    """

    steps: Mapping[str, tuple[float, float]]
    disk: tuple[int, int]
    memory: tuple[int, int]

    @property
    def foreseen_s(self) -> float:
        """Of all steps."""
        return sum(foreseen for foreseen, _ in self.steps.values())

    @property
    def took_s(self) -> float:
        """Of all steps."""
        return sum(took for _, took in self.steps.values())

    @property
    def percent(self) -> float:
        """By how much the estimate was too low (above 0) or too high, percent of what the steps took."""
        return 100 * (self.took_s - self.foreseen_s) / self.took_s if self.took_s else 0.0
