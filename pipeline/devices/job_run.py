"""One run of a job on a device, across the connections that it takes: what it emits, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pipeline.devices.channel import Bounds, TooMuch
from pipeline.devices.conversation import Conversation
from pipeline.devices.messages import Event, Failure, Happened, Job, Success, read
from pipeline.devices.transfer import Moved

R = TypeVar("R")
Tie = Literal["attached", "detached", "shared"]
Events = Callable[[Event], None]

# A job's outcome, and its events and outcome together, have at most so many bytes.
_OUTCOME_BYTES, _JOB_BYTES = 64 << 20, 96 << 20


@dataclass(frozen=True)
class Done(Generic[R]):
    """A job that ended well.

    Attributes:
        job: its name on the device, for `fetch` and `release`.
        result: what it returned.
        seconds: how long it ran there.
        found: it had run, or was running, before it was asked for.
    """

    job: str
    result: R
    seconds: float
    found: bool


@dataclass
class JobRun(Generic[R]):
    """One `run`, across the connections that it takes."""

    name: str
    job: Job[R]
    request: Mapping[str, Any]
    tie: Tie
    progress: Events
    end: float
    offset: int = 0
    said: int = 0
    starts: int = 0
    found: bool = False

    @property
    def late(self) -> Failure:
        """How a job ends that did not end in time."""
        return Failure(
            ok=False,
            what=f"the job '{self.job.name}' did not end in time",
            fix="see what else the device does, or raise the target's remote.job_s",
            kind="late",
        )


def attend(conversation: Conversation, run: JobRun[R], moved: Moved) -> Success[R] | Failure:
    """Hear the events of a job that was attached to, until its outcome or the end of its time.

    Raises:
        ConnectionLost: the connection ended; what was heard is in `run`.
        TooMuch: more was said than a job may say.
        Unfit: what was said is no event and no outcome of this job.
    """
    bounds = Bounds(_OUTCOME_BYTES, _JOB_BYTES - run.said, run.end)
    while True:
        try:
            kind, line = conversation.next(bounds)
        except TooMuch:
            if time.monotonic() < run.end:
                raise
            return run.late
        run.said += len(line)
        moved.by(len(line))
        if kind != "event":
            return run.job.outcome(line).outcome
        happened = read(Happened, line)
        run.offset = happened.offset
        run.progress(happened.event)
