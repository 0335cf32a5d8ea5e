"""What the agent's jobs return, as typed values, and the arrays that they leave as files."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Required

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, with_config
from typing_extensions import TypedDict

from pipeline.devices.facts import Memory, PowerMode, Reading, Watts
from pipeline.devices.messages import Count, Digest, Job, Name, Number, Prose, Seconds, Unfit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CLOSED = ConfigDict(strict=True, extra="forbid")
# Names of a job's files, in its folder on the device: they are part of the protocol, never the device's choice.
BUILD_LOG = "build.log"
LAYERS = "layers.txt"
LOGITS = "logits.npy"
REPEATED = "repeated.npy"
SAMPLES = "samples.f64"
GOLDEN = "golden.npy"

Plain = Annotated[dict[Name, JsonValue], Field(max_length=100)]
"""Facts for people: JSON values by name."""
Power = Annotated[list[tuple[Number, Watts]], Field(max_length=1_000_000)]


@with_config(_CLOSED)
class Tensor(TypedDict):
    """An input or output of an engine."""

    name: Name
    dtype: Name
    shape: Annotated[list[Count | Name], Field(max_length=16)]


@with_config(_CLOSED)
class Built(TypedDict):
    """Of the job `build`; `file` is the name that was asked for, where there is a file."""

    seconds: Seconds
    memory_mb: Memory
    inputs: NotRequired[Annotated[list[Tensor], Field(max_length=16)]]
    outputs: NotRequired[Annotated[list[Tensor], Field(max_length=16)]]
    layers: NotRequired[Count]
    classes: NotRequired[Count]
    versions: NotRequired[Annotated[dict[Name, Name], Field(max_length=16)]]
    facts: NotRequired[Plain]
    command: NotRequired[Annotated[list[Prose], Field(max_length=1000)]]
    file: NotRequired[Name]
    log: NotRequired[Literal["", "build.log"]]
    layer_list: NotRequired[Literal["", "layers.txt"]]
    bytes: NotRequired[Count]
    sha256: NotRequired[Digest]
    timing_cache: NotRequired[Literal["none", "new", "reused"]]


@with_config(_CLOSED)
class Inferred(TypedDict):
    """Of the job `infer`."""

    logits: Literal["logits.npy"]
    repeated: NotRequired[Literal["repeated.npy"]]
    count: Count
    seconds: Seconds
    facts: Plain


@with_config(_CLOSED)
class TimedCase(TypedDict):
    """How one case was timed: `rounds` are the samples of each turn; `resolution_ms`: 0 where it does not count."""

    wall_seconds: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)]
    queries: Count
    rounds: Annotated[list[Count], Field(max_length=100_000)]
    notes: Annotated[list[Prose], Field(max_length=1000)]
    resolution_ms: NotRequired[Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]]


@with_config(_CLOSED)
class Energy(TypedDict):
    """Power of one engine: `idle` and `load` are pairs of seconds and watts by rail."""

    images: Annotated[int, Field(gt=0, le=1 << 53)]
    seconds: Annotated[float, Field(gt=1e-6, le=1e7, allow_inf_nan=False)]
    idle: Power
    load: Power


_Cases = Field(max_length=100_000)
_Span = tuple[Count, Count]


@with_config(_CLOSED)
class TimedReading(Reading, total=False):
    """A reading in a measurement: `when` is `before`, `between`, `after` or `sustained`."""

    when: Required[Name]


@with_config(_CLOSED)
class WarmedUp(TypedDict):
    """How an engine was warmed up: the GPU's clock in MHz after each window."""

    seconds: Seconds
    mhz: Annotated[list[Number], Field(max_length=1000)]
    steady: bool


_Median = Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)]
_Threads = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}$")]


@with_config(_CLOSED)
class ChosenThreads(TypedDict):
    """A number of CPU threads, and the median (ms) of each candidate in each round."""

    chosen: Annotated[int, Field(ge=1, le=9999)]
    medians: Annotated[
        dict[_Threads, Annotated[list[_Median], Field(min_length=1, max_length=100)]], Field(max_length=16)
    ]


def _among(found: ChosenThreads) -> ChosenThreads:
    if str(found["chosen"]) not in found["medians"]:
        raise ValueError("the chosen number of threads was not tried")
    return found


@with_config(_CLOSED)
class RoundLoad(TypedDict):
    """Who used the device's CPUs in a round, in cores: the job, others, the hypervisor."""

    seconds: Seconds
    own_cores: Number
    other_cores: Number
    steal_cores: Number


@with_config(_CLOSED)
class TimesOf(TypedDict):
    """Of the job `time`; `index` says for each case and part where in the samples it lies (first value, how many)."""

    samples: Literal["samples.f64"]
    index: Annotated[dict[Name, Annotated[dict[Name, _Span], Field(max_length=100)]], _Cases]
    cases: Annotated[dict[Name, TimedCase], _Cases]
    sustained: Annotated[dict[Name, TimedCase], _Cases]
    energy: Annotated[dict[Name, Energy], _Cases]
    readings: Annotated[list[TimedReading], Field(max_length=1_000_000)]
    load: NotRequired[Annotated[list[RoundLoad], Field(max_length=10_000)]]
    repeated_rounds: NotRequired[Count]
    further_rounds: NotRequired[Count]
    warm_up: NotRequired[Annotated[dict[Name, WarmedUp], _Cases]]
    threads: NotRequired[Annotated[dict[Name, Annotated[ChosenThreads, AfterValidator(_among)]], _Cases]]
    memory: NotRequired[Annotated[dict[Name, Count], _Cases]]
    golden: Literal["golden.npy"] | None
    facts: Annotated[dict[Name, Plain], _Cases]
    power_mode: PowerMode
    missing: Annotated[list[Prose], Field(max_length=1000)]


_PARTS = {"latency", "compute", "enqueue", "h2d", "d2h", "decode", "resize", "infer", "argmax", "at"}
_LONGEST_MS = 1e10

BUILD = Job("build", Built)
INFER = Job("infer", Inferred)
TIME = Job("time", TimesOf)

# What NumPy writes before an array's values: 10 bytes and a text padded to 64.
_NPY_HEADER = 256


def npy_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """The most bytes that a .npy file of an array can have."""
    import numpy as np

    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize + _NPY_HEADER


def read_npy(content: bytes, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """The array of a .npy file, whose shape and type are known beforehand.

    Args:
        content: the file.
        shape: what it must be.
        dtype: NumPy's name of the type, such as `float32`.

    Raises:
        Unfit: it is no .npy file, or of another shape or type.
    """
    import numpy as np

    if content[:6] != b"\x93NUMPY" or content[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise Unfit("not a .npy file")
    width = 2 if content[6] == 1 else 4
    start = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    if start > _NPY_HEADER or start > len(content):
        raise Unfit("a .npy file with a header that is too long")
    try:
        header = ast.literal_eval(content[8 + width : start].decode("latin-1").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise Unfit("a .npy file whose header cannot be read") from None
    stored = np.dtype(dtype).newbyteorder("<")
    if header != {"descr": stored.str, "fortran_order": False, "shape": shape}:
        raise Unfit(f"an array that is not {dtype} of shape {list(shape)}")
    if len(content) - start != int(np.prod(shape, dtype=np.int64)) * stored.itemsize:
        raise Unfit("an array with fewer or more values than its shape says")
    return np.frombuffer(content, stored, offset=start).reshape(shape)


def timed_arrays(
    content: bytes, result: TimesOf, cases: Sequence[str], engines: Sequence[str]
) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """Raw samples in ms by case and part; those of a sustained run of engine E are the case `sustained|E`.

    Args:
        content: of the file of samples: doubles, little endian.
        result: of the job.
        cases: that were asked for.
        engines: that were timed.

    Raises:
        Unfit: something that was not asked for, a case without samples, values beyond the file, or times that are none.
    """
    import numpy as np

    timed = result["cases"] | {f"sustained|{engine}": case for engine, case in result["sustained"].items()}
    for what, said, asked in (
        ("cases", result["cases"], cases),
        ("engines", result["sustained"], engines),
        ("engines", result["energy"], engines),
        ("engines", result["facts"], engines),
        ("engines", result.get("warm_up", {}), engines),
        ("engines", result.get("memory", {}), engines),
    ):
        if not set(said) <= set(asked):
            raise Unfit(f"{what} that were not asked for")
    if set(result["index"]) != set(timed):
        raise Unfit("samples of other cases than were timed")
    if len(content) % 8:
        raise Unfit("samples that are not whole numbers of 8 bytes")
    values = np.frombuffer(content, "<f8")
    if not ((values >= 0) & (values < _LONGEST_MS)).all():
        raise Unfit("samples that are no times in ms")
    found: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    for case, parts in result["index"].items():
        lengths = {count for _, count in parts.values()}
        known = {"latency", "at"} if case.startswith("sustained|") else _PARTS
        if "latency" not in parts or not set(parts) <= known or len(lengths) != 1 or 0 in lengths:
            raise Unfit("a case without samples, or with unknown parts, or parts of different lengths")
        if (rounds := timed[case]["rounds"]) and {sum(rounds)} != lengths:
            raise Unfit("turns that do not add up to a case's samples")
        if any(first + count > len(values) for first, count in parts.values()):
            raise Unfit("samples beyond the end of their file")
        found[case] = {part: values[first : first + count] for part, (first, count) in parts.items()}
    return found
