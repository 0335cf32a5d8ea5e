"""A device as a place of work: engines are built, scored and timed there by the agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.address import Device
from pipeline.places.place import Answers, BuildTask, Built, Context, ScoreTask, Timed, TimeTask


@dataclass(frozen=True)
class OnDevice:
    """A device that is reached over ssh."""

    device: Device

    def build(self, task: BuildTask, context: Context) -> Built:
        """See `Place.build`."""
        from pipeline.places.device_build import build

        return build(self.device, task, context)

    def score(self, task: ScoreTask, context: Context) -> Iterator[Answers]:
        """See `Place.score`."""
        from pipeline.places.device_score import score

        return score(self.device, task, context)

    def time(self, task: TimeTask, context: Context) -> Timed:
        """See `Place.time`."""
        from pipeline.places.device_time import time

        return time(self.device, task, context)
