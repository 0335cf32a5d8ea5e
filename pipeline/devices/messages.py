"""The one boundary for what a device says: every message becomes typed, bounded values, or is refused.

Nothing here names a file or a folder of this machine: local names are always the host's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)

# What a message for people may have; the rest of a longer one is cut off.
_PROSE, _LOG = 2_000, 16_000


class Unfit(Exception):
    """A message that does not fit; the text says where and why."""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_PROSE]


Count = Annotated[int, Field(ge=0, le=1 << 53)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=256)]
Path = Annotated[str, Field(max_length=4096)]
"""A path on the device: shown, or sent back; never used on this machine."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Prose = Annotated[str, AfterValidator(_one_line)]
Log = Annotated[str, AfterValidator(lambda text: text[-_LOG:])]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Head(BaseModel):
    """What every message has: its type, and the number of the request that it answers."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    type: Name
    re: Count | None = None


class Holder(_Message):
    """Who works on a device, or did last."""

    session: Name = ""
    host: Name = "another host"
    user: Name = "somebody"
    pid: Count = 0
    since: Number | None = None
    held_s: Count | None = None
    connected: bool = True

    def words(self, running: Sequence[str]) -> str:
        """Who works there, for people; `running` are the jobs."""
        held = self.held_s
        since = f" for {held // 60} min {held % 60} s" if held is not None else ""
        doing = f", running {', '.join(running)}" if running else ""
        gone = "" if self.connected else "; its connection is gone, and what it started goes on"
        return f"{self.user}@{self.host} works there{since}{doing}{gone}"


# The bootstrap, before there is an agent


class Need(_Message):
    """The agent is not there yet."""

    type: Literal["need"]


class Ready(_Message):
    """The bootstrap becomes the agent."""

    type: Literal["ready"]


class OldPython(_Message):
    """The device's Python is too old."""

    type: Literal["error"]
    what: Literal["python"]
    found: Name


class NoFolder(_Message):
    """The work folder cannot be used."""

    type: Literal["error"]
    what: Literal["folder"]
    folder: Path
    problem: Prose
    full: bool
    fix: Prose = ""


FIRST_WORDS: TypeAdapter[Need | Ready | OldPython | NoFolder] = TypeAdapter(
    Need | Ready | OldPython | NoFolder
)


class Greeting(BaseModel):
    """As much of `Hello` as every version of the protocol has."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    type: Literal["hello"]
    protocol: Count


class Hello(_Message):
    """What the agent says of itself and the device; `free` in bytes, `time` in s since 1970."""

    type: Literal["hello"]
    protocol: Count
    python: Name
    node: Name
    boot_id: Name
    folder: Path
    free: Count
    time: Seconds
    holder: Holder | None


# Answers


class _Answer(_Message):
    re: Count


class Error(_Answer):
    """What was asked cannot be done; see `pipeline.devices.agent.errors.JobError`."""

    type: Literal["error"]
    what: Prose
    fix: Prose
    kind: Name


class Busy(_Answer):
    """Another host works there."""

    type: Literal["busy"]
    holder: Holder
    running: list[Name] = Field(max_length=1000)


class Ok(_Answer):
    """Done; there is nothing to say."""

    type: Literal["ok"]


class Introduced(Ok):
    """The device's clock, s since 1970."""

    time: Seconds


class Have(Ok):
    """Whether a file is there, else the bytes of it that are."""

    have: bool
    partial: Count = 0


class Go(_Answer):
    """Raw bytes may follow."""

    type: Literal["go"]


class Failure(_Message):
    """How a job failed; `said` and `beside` are a library's own words, `log` is the end of the job's log."""

    ok: Literal[False]
    what: Prose
    fix: Prose
    kind: Name = "failed"
    said: list[Prose] = Field(default=[], max_length=100)
    beside: list[Prose] = Field(default=[], max_length=100)
    log: Log = ""
    seconds: Seconds = 0.0


class Started(Ok):
    """The state of a job; `lost` is how an earlier attempt ended."""

    state: Literal["started", "running", "done"]
    lost: Failure | None = None


class FileSize(_Answer):
    """So many bytes does the file have; those that are missing follow raw."""

    type: Literal["file"]
    size: Count


class Sent(Ok):
    """The sha256 (hex) of all bytes of a file that was sent."""

    sha256: Digest


class Entry(_Message):
    """A file or folder in the work folder; `used` in s since 1970."""

    name: Name
    bytes: Count
    used: Number


class Inventory(Ok):
    """What lies in the work folder."""

    entries: list[Entry] = Field(max_length=100_000)
    jobs: dict[Name, Name] = Field(max_length=10_000)
    holder: Holder | None


class Removed(Ok):
    """Bytes that were removed, and names that were left because they are not the agent's."""

    removed: int = Field(ge=-(1 << 53), le=1 << 53)
    left: list[Name] = Field(default=[], max_length=10_000)


# A job


class Event(_Message):
    """What a job says while it works: progress (done, total, note) or a line of a library's log."""

    progress: tuple[Count, Count, Prose] | None = None
    log: Log | None = None


class Happened(_Answer):
    """An event of a job; `offset` is where the next one begins."""

    type: Literal["event"]
    offset: Count
    event: Event


class Success(_Message, Generic[R]):
    """How a job ended well."""

    ok: Literal[True]
    result: R
    seconds: Seconds


class Outcome(_Answer, Generic[R]):
    """How a job ended."""

    type: Literal["outcome"]
    outcome: Annotated[Success[R] | Failure, Field(discriminator="ok")]


@dataclass(frozen=True)
class Job(Generic[R]):
    """A job of the agent, and what its result must look like.

    Attributes:
        name: of the module in the agent's `jobs`.
        result: a type that pydantic can check.
    """

    name: str
    result: type[R]

    def outcome(self, line: bytes) -> Outcome[R]:
        """Read how the job ended.

        Raises:
            Unfit: it is not a result of this job.
        """
        found: Outcome[R] = read(Outcome[self.result], line)  # type: ignore[name-defined]
        return found


def read(model: type[M], line: bytes) -> M:
    """Read one message.

    Raises:
        Unfit: it is not JSON, or not of this type, or beyond a bound.
    """
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise Unfit(_reason(error)) from None


def read_first(line: bytes) -> Need | Ready | OldPython | NoFolder:
    """Read what the bootstrap says.

    Raises:
        Unfit: it is none of that.
    """
    try:
        return FIRST_WORDS.validate_json(line)
    except ValidationError as error:
        raise Unfit(_reason(error)) from None


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = _place(first["loc"])
    return f"{place}: {first['msg'].lower()}" if place else str(first["msg"]).lower()


def _place(keys: Sequence[int | str]) -> str:
    # Keys of a mapping are the device's own words: they may be long, and hold anything.
    return ".".join(ascii(key).strip("'")[:40] for key in keys[:8])


def checked(kind: type[R], value: Mapping[str, Any]) -> R:
    """A value that a device said earlier and that was kept as JSON.

    Raises:
        Unfit: it does not fit (any more).
    """
    adapter: TypeAdapter[R] = TypeAdapter(kind)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise Unfit(_reason(error)) from None
