"""What a place of work offers: building, scoring and timing a target's engines, on this machine or on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from export.runtime.facts import EngineFacts
from figkd.progress import Progress, no_progress
from pipeline.devices.facts import Facts
from pipeline.places.images import Images
from pipeline.places.kept import NOTHING, Engines
from pipeline.places.threads import Tried
from pipeline.results.latency import BenchmarkRow
from pipeline.results.rows.engines import EngineRow, NotMade, Wanted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.options import TensorRTOptions
    from pipeline.places.latency import Plan
    from pipeline.places.pictures import Pictures

FACTS_FILE = "device.json"
"""What a device said of itself, in the artifact of `build`."""


def no_note(text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Context:
    """What every piece of work is given: a folder for its own files, and whom it tells."""

    scratch: Path
    progress: Progress = no_progress
    note: Callable[[str], None] = no_note


@dataclass(frozen=True)
class BuildTask:
    """Engines to build for one target.

    Attributes:
        target: its name in the config.
        backend: of all its engines.
        wanted: the engines.
        onnx: the ONNX files, by name.
        not_made: those that could not be made, by name.
        batch_sizes: that each engine must accept.
        threads: of ONNX Runtime; None: all.
        tensorrt: options of TensorRT's builder.
        builder_keys: those of them that the back end has.
        power_mode: of a device, to build in; None: as it is.
        required: a missing back end fails the run.
        out: where engine files and logs go.
        timing_caches: a folder that all runs share.
        kept: engines of other devices, for equal facts.
    """

    target: str
    backend: str
    wanted: Sequence[Wanted]
    onnx: Mapping[str, Path]
    not_made: Mapping[str, NotMade]
    batch_sizes: Sequence[int]
    threads: int | None
    tensorrt: TensorRTOptions
    builder_keys: Sequence[str]
    power_mode: str | None
    required: bool
    out: Path
    timing_caches: Path
    kept: Engines = NOTHING


@dataclass(frozen=True)
class Built:
    """What became of the wanted engines; their files lie in `BuildTask.out`.

    Attributes:
        rows: one for each, in order.
        seconds: how long a build took, by engine.
        notes: what happened on the way, by engine.
        facts: what the device said of itself; None for this machine.
    """

    rows: list[EngineRow] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    facts: Facts | None = None


@dataclass(frozen=True)
class ScoreTask:
    """Engines whose answers to images are wanted.

    Attributes:
        target: its name in the config.
        rows: engines that run.
        built: the folder of their files.
        images: what is shown.
        classes: how many logits each engine has.
        threads: of ONNX Runtime; None: all.
    """

    target: str
    rows: Sequence[EngineRow]
    built: Path
    images: Images
    classes: int
    threads: int | None


@dataclass(frozen=True)
class Answers:
    """What an engine answered.

    Attributes:
        engine: its id.
        logits: float32 [N, C], columns in the engine's own order.
        identical_rows: one image several times got the same logits.
    """

    engine: str
    logits: npt.NDArray[np.float32]
    identical_rows: bool


@dataclass(frozen=True)
class TimeTask:
    """Engines whose latency is wanted.

    Attributes:
        target: its name in the config.
        rows: engines that run.
        built: the folder of their files.
        images: what is shown in turn.
        pictures: what `image_to_class` decodes in turn.
        plan: what is measured of each engine, and for how long.
        threads: of ONNX Runtime; None: as many as are fastest.
        spinning: its threads wait in a loop.
        denormals_as_zero: its threads take denormal numbers as zero.
        energy_s: length of the run in which energy is read, in s; 0: none.
        sustained_s: length of a run without a pause, on devices, in s; 0: none.
        power_modes: of a device, to measure in; empty: as it is.
        memory: also measure the memory that engines take, where that can be done.
    """

    target: str
    rows: Sequence[EngineRow]
    built: Path
    images: Images
    pictures: Pictures
    plan: Plan
    threads: int | None
    spinning: bool
    denormals_as_zero: bool
    energy_s: float
    sustained_s: float = 0.0
    power_modes: Sequence[str] = ()
    memory: bool = False


class RunFacts(EngineFacts, total=False):
    """How an engine ran."""

    threads_tried: list[Tried]
    """Other numbers of CPU threads, where one was chosen by measurement."""


@dataclass(frozen=True)
class Timed:
    """What was measured.

    Attributes:
        rows: statistics, of each engine, batch size and boundary.
        samples: raw samples in ms, by case and part.
        runtime: how each engine ran: providers, threads.
        machine: facts and readings of the machine, as JSON values.
        operators: what ONNX Runtime makes of INT8 files where they run, by engine and operator.
        memory: what loading an engine and one inference add to the peak memory of a process, bytes by engine; those
            of ONNX Runtime alone, and only where it was asked for.
    """

    rows: list[BenchmarkRow]
    samples: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    runtime: Mapping[str, RunFacts]
    machine: Mapping[str, Any]
    operators: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)


class Place(Protocol):
    """Where a target's engines are built, scored and timed."""

    def build(self, task: BuildTask, context: Context) -> Built:
        """Build engines; one that cannot be built is a row that says why.

        Raises:
            PipelineError: the place cannot be worked at, or lacks a back end that the config demands.
        """
        ...

    def score(self, task: ScoreTask, context: Context) -> Iterator[Answers]:
        """Show engines the images, one engine after the other; one that cannot be scored there is left out.

        Raises:
            PipelineError: the place cannot be worked at.
        """
        ...

    def time(self, task: TimeTask, context: Context) -> Timed:
        """Time engines, taking turns.

        Raises:
            PipelineError: the place cannot be worked at.
        """
        ...
