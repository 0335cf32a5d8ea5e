"""The one function that runs one config for a search, wherever it is called: in a process, a SLURM job, a Ray task."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from export.errors import ExportError
from figkd.errors import FigkdError, TrainingPaused
from figkd.progress import Progress, no_progress
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import Exit, PipelineError
from pipeline.core.faults import defect
from pipeline.core.files import read_json
from pipeline.core.store import Artifact, Store
from pipeline.results.rows.trials import Rung, SeedResult, ValidationScore
from pipeline.run import conductor
from pipeline.run.planning import Selection, remember_files_of

Kind = Literal["prepare", "rung", "finish"]
_UNTIL: Mapping[Kind, str] = {"prepare": "logits", "rung": "distill", "finish": "qad"}


@dataclass(frozen=True)
class TrialRequest:
    """What one call does.

    Attributes:
        config: of the trial, as JSON: classes made from tables cannot be pickled. Its store is shared by all.
        folder: where the search was started; relative paths of the config count from there.
        kind: `prepare`: up to the teacher's logits. `rung`: the student, for `epochs`. `finish`: the student in full,
            its ONNX files in each precision, all scored on validation images.
        epochs: of `rung`.
        logs: the folder for what a defect of ours leaves, from `folder`.
        files_of: the config whose memory of source files' digests is taken over; empty for none.
        threads: of the CPU; None leaves it to the libraries.
    """

    config: str
    folder: str
    kind: Kind
    epochs: int = 0
    logs: str = ""
    files_of: str = ""
    threads: int | None = None


@dataclass(frozen=True)
class Failure:
    """Why a call failed.

    Attributes:
        what: what went wrong.
        fix: what to do about it.
        final: the config's own doing, such as a loss that is not finite: a second attempt would end the same way.
    """

    what: str
    fix: str = ""
    final: bool = False


@dataclass(frozen=True)
class TrialOutcome:
    """What came of a call: of `rung` the rungs that are known, of `finish` also the result; or a failure."""

    seconds: float
    rungs: tuple[Rung, ...] = ()
    result: SeedResult | None = None
    failure: Failure | None = None
    notes: tuple[str, ...] = field(default=())


def run_trial(request: TrialRequest) -> TrialOutcome:
    """Run one config up to what is asked; failures come back as values."""
    started = time.monotonic()
    if os.getcwd() != request.folder:
        os.chdir(request.folder)
    try:
        if request.threads is not None:
            _limit_threads(request.threads)
        outcome = _run(request)
    except PipelineError as error:
        outcome = TrialOutcome(0, failure=Failure(error.head, error.fix, _is_final(error)))
    except MemoryError:
        outcome = TrialOutcome(
            0, failure=Failure("there is not enough memory", "lower the batch size, or jobs")
        )
    except Exception as error:
        fault = defect(error, "trial", Path(request.folder) / request.logs)
        outcome = TrialOutcome(0, failure=Failure(fault.head, fault.fix))
    return replace(outcome, seconds=time.monotonic() - started)


def _is_final(error: PipelineError) -> bool:
    """Whether a failure is the config's own: not of the machine or a device, nor for want of memory, nor our defect."""
    understood = error.__cause__ is None or isinstance(error.__cause__, FigkdError | ExportError)
    return error.exit_code in (Exit.STAGE_FAILED, Exit.CONFIG) and understood


def _run(request: TrialRequest) -> TrialOutcome:
    config = DeployConfig.model_validate_json(request.config)
    store, silent = Store(config.store.folder), Silent()
    if request.files_of:
        remember_files_of(request.files_of, config, store)
    selection = Selection(
        until=_UNTIL[request.kind], pause_after=request.epochs if request.kind == "rung" else None
    )
    try:
        outcome = conductor.run(config, store, silent, selection)
    except TrainingPaused as paused:
        return TrialOutcome(0, _rungs(paused.history, 0), notes=tuple(silent.notes))
    if request.kind == "prepare":
        return TrialOutcome(0, notes=tuple(silent.notes))
    distilled = outcome.artifacts["distill"].path
    student = _score(read_json(distilled / "metrics.json")["val"])
    rungs = _rungs(read_json(distilled / "history.json"), student.n)
    if request.kind == "rung":  # it was trained to its end before
        return TrialOutcome(0, rungs[: request.epochs], notes=tuple(silent.notes))
    seed = config.seed if config.distill.seed is None else config.distill.seed
    result = SeedResult(
        seed=seed, epochs=len(rungs), student=student, files=_files(config, outcome.artifacts)
    )
    return TrialOutcome(0, rungs, result, notes=tuple(silent.notes))


def _rungs(history: list[dict[str, object]], n: int) -> tuple[Rung, ...]:
    return tuple(Rung.model_validate({**_of(record), "n": n}) for record in history)


def _of(record: Mapping[str, object]) -> dict[str, object]:
    return {"epochs": record["epoch"], "val_top1": record["val_top1"]}


def _files(config: DeployConfig, artifacts: Mapping[str, Artifact]) -> dict[str, ValidationScore]:
    """Every ONNX file of a finished student on all validation images, in ONNX Runtime on the CPU."""
    from dataclasses import asdict

    from export.accuracy import accuracy
    from figkd.data import class_names, open_split
    from pipeline.places.images import Images
    from pipeline.stages.engines import onnx_path
    from pipeline.stages.precision import onnx_engine

    folders = {name: artifacts[name].path for name in ("data", "distill", "precision", "qad")}
    names, split = class_names(folders["data"]), open_split(folders["data"], "val")
    student = folders["distill"] / "model.pt"
    images = Images(split.images, config.data.image_size, config.export.input, student).inputs()
    found: dict[str, ValidationScore] = {}
    for made in sorted(folders["precision"].glob("*.onnx")):
        engine = onnx_engine(onnx_path(folders, made.name))
        try:
            found[made.name] = _score(asdict(accuracy(engine.infer(images), split.labels, names)))
        finally:
            engine.close()
    return found


def _score(facts: Mapping[str, object]) -> ValidationScore:
    worst = facts["worst_classes"]
    assert isinstance(worst, list)
    return ValidationScore.model_validate(
        {name: facts[name] for name in ("n", "top1", "top5", "mean_per_class")}
        | {"worst_class": min((each["accuracy"] for each in worst), default=0.0)}
    )


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


class Silent:
    """An interface (`pipeline.run.conductor.Interface`) that keeps the notes, and shows nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def step_started(self, step: str, reason: str) -> Progress:
        """Nothing is shown."""
        return no_progress

    def step_finished(self, step: str, summary: str, seconds: float, artifact: Path) -> None:
        """Nothing is shown."""

    def step_cached(self, step: str, summary: str) -> None:
        """Nothing is shown."""

    def step_failed(self, step: str, error: PipelineError) -> None:
        """A target's step failed."""
        self.notes.append(str(error))

    def note(self, text: str) -> None:
        """Kept."""
        self.notes.append(text)
