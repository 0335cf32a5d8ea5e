"""What a stage is: a function from arguments and input folders to an output folder, and how it is described."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figkd.data.content import FileDigests, hash_files
from figkd.distributed import ALONE, World
from figkd.progress import Progress
from pipeline.config.schema import DeployConfig
from pipeline.places.here import HERE
from pipeline.places.int8_layouts import Layouts
from pipeline.places.place import Context, Place, no_note

Facts = Mapping[str, Any]
Arguments = dict[str, Any]
"""What decides a stage's result: plain JSON values, which go into its key."""

PREDICTIONS = "predictions.npz"
"""In the artifacts of `teacher` and `validate`: what it, or each engine that ran, answers to the test images."""


@dataclass(frozen=True)
class Source:
    """Files from outside the store that a stage reads; their contents count for its key, their place does not."""

    root: Path | None
    files: Callable[[], Sequence[Path]]


@dataclass(frozen=True)
class Work:
    """One run of a stage: what it is given, where it writes, and the processes that run it together.

    `place` is where a target's work is done. `note` is told what is worth a line.
    `digests` gives the sha256 of source files, remembered from when the key was made. `scratch` is what this step
    resumes from; `caches` is a folder that all runs share, for what saves time and changes no result. An engine there
    that was built before `since` (seconds since the epoch) is not taken. `pause_after` ends the student's training
    after so many epochs, by `figkd.errors.TrainingPaused`, with its state in `scratch`.
    """

    arguments: Mapping[str, Any]
    inputs: Mapping[str, Path]
    sources: Mapping[str, Path | None]
    out: Path
    scratch: Path
    progress: Progress
    world: World = ALONE
    place: Place = HERE
    note: Callable[[str], None] = no_note
    caches: Path = Path()
    since: float = 0.0
    digests: FileDigests = hash_files
    pause_after: int | None = None

    @property
    def context(self) -> Context:
        """What work at the place is given."""
        return Context(self.scratch, self.progress, self.note)


@dataclass(frozen=True)
class Stage:
    """A kind of step in the pipeline.

    Attributes:
        name: as the command line knows it.
        version: raised when the same arguments and inputs would give another result.
        inputs: stages whose artifacts are read. An input that is per target means the one of the same
            target, and all of them for a stage that is not per target itself.
        arguments: the config's keys that decide the result, as plain JSON values; they go into the key.
            The second argument is the target's name, empty for stages that are not per target.
        layout_arguments: more of them, that follow from the INT8 layouts of the targets (`places.int8_layouts`);
            None where these decide nothing, so that no device is asked.
        run: does the work.
        summary: one line for the terminal, read from a finished artifact.
        sources: files from outside the store.
        environment: facts of this machine that decide the result; they go into the key.
        device_environment: the same for a target on a device, from what its `facts` job returned and the arguments.
        volatile: files that are kept and verified, but that differ from run to run.
        per_target: one step for each of the config's targets.
        together: under torchrun every process runs it; what the others than rank 0 write is thrown away.
        does: for the documentation.
        leaves: the same.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    arguments: Callable[[DeployConfig, str], Arguments]
    run: Callable[[Work], None]
    summary: Callable[[Path], str]
    layout_arguments: Callable[[DeployConfig, str, Layouts], Arguments] | None = None
    sources: Callable[[DeployConfig], Mapping[str, Source]] = lambda _: {}
    environment: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda _: {}
    device_environment: Callable[[Facts, Mapping[str, Any]], Mapping[str, str]] = lambda facts, _: {}
    volatile: frozenset[str] = field(default_factory=frozenset)
    per_target: bool = False
    together: bool = False
    does: str = ""
    leaves: str = ""
