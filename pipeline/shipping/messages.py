"""What a device says of its releases, as typed and bounded values."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import BaseModel, ConfigDict, Field, JsonValue, with_config
from typing_extensions import TypedDict

from export.runtime.counts import BINS, GROUPS, OutputCounts
from pipeline.devices.messages import Count, Digest, Job, Name, Number, Path, Prose


@with_config(ConfigDict(strict=True, extra="forbid"))
class Answered(TypedDict):
    """Of the job `release`: `missing`, or the program's exit code and what it printed."""

    root: Path
    missing: NotRequired[Annotated[list[Digest], Field(max_length=10_000)]]
    code: NotRequired[Count]
    answer: NotRequired[dict[Name, JsonValue]]


RELEASE = Job("release", Answered)


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Fault(_Answer):
    """Why the program did not do it."""

    error: Prose
    where: Prose = ""
    fix: Prose = ""


class Installed(_Answer):
    """Of `install`."""

    id: Digest
    sequence: Count
    is_new: bool


class RolledBack(_Answer):
    """Of `rollback`."""

    id: Digest
    sequence: Count


class Release(_Answer):
    """A release that was committed on the device."""

    id: Digest
    name: Name
    channel: Name
    sequence: Count
    here: bool
    withdrawn: bool


class Runtime(_Answer):
    """Somebody who serves there."""

    name: Name
    release: Name
    requests: Count
    errors: Count
    p99_ms: Number | None


class Histogram(_Answer):
    """See `export.runtime.counts.OutputCounts`."""

    confidence: Annotated[list[Count], Field(min_length=BINS, max_length=BINS)]
    classes: Annotated[list[Count], Field(min_length=1, max_length=GROUPS)]

    @property
    def counts(self) -> OutputCounts:
        """The same as the runtime has it."""
        return OutputCounts(tuple(self.confidence), tuple(self.classes))


class Outputs(_Answer):
    """What was counted of the answers of the release that serves."""

    days: Count
    counted: Histogram
    reference: Histogram | None


class Status(_Answer):
    """Of `status`; see `export.runtime.install.report`."""

    root: Path
    serves: Digest | None
    active: Digest | None
    previous: Digest | None
    trial: Digest | None
    at_work: bool
    bytes: Count
    releases: Annotated[list[Release], Field(max_length=1000)]
    failed: Annotated[dict[Digest, Prose], Field(max_length=100)]
    runtimes: Annotated[list[Runtime], Field(max_length=1000)]
    outputs: Outputs | None = None
    """Absent from runtimes of earlier versions."""
