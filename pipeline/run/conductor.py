"""Runs the steps of a config that are not done.

Targets on different devices are worked on at the same time; those of this machine come after them, alone, so that
nothing disturbs what is timed here.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from export.errors import BackendMissing, ExportError
from figkd import own_network
from figkd.distributed import ALONE, World
from figkd.errors import FigkdError, TrainingPaused
from figkd.progress import Progress, no_progress
from pipeline.config.schema import DeployConfig
from pipeline.core.address import LOCAL
from pipeline.core.errors import ConfigError, DeviceFault, EnvironmentFault, PipelineError, StageFailed
from pipeline.core.faults import defect, environment_fault, out_of_memory
from pipeline.core.files import Json, write_json
from pipeline.core.store import Artifact, Recipe, Store
from pipeline.core.store_usage import note_begun
from pipeline.devices.known import KnownDevices
from pipeline.devices.session import abort_sessions
from pipeline.places import environment
from pipeline.places.device import OnDevice
from pipeline.places.here import HERE
from pipeline.places.place import no_note
from pipeline.run.planning import (
    EVERYTHING,
    Selection,
    Step,
    device_at,
    digests_of,
    input_ids,
    known_devices,
    last_path,
    read_last,
    recipe_of,
    steps_of,
    why_run,
)
from pipeline.run.sharing import Sharing
from pipeline.stages.base import Work
from pipeline.stages.table import STAGES


@dataclass
class Outcome:
    """What a run made."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    failures: dict[str, PipelineError] = field(default_factory=dict)


class Interface(Protocol):
    """What the conductor tells the person (or program) that started it."""

    def step_started(self, step: str, reason: str) -> Progress:
        """A step begins to run."""

    def step_finished(self, step: str, summary: str, seconds: float, artifact: Path) -> None:
        """A step ran to its end."""

    def step_cached(self, step: str, summary: str) -> None:
        """A step was done before."""

    def step_failed(self, step: str, error: PipelineError) -> None:
        """A step failed; other targets go on."""

    def note(self, text: str) -> None:
        """Something worth a line."""


def run(
    config: DeployConfig,
    store: Store,
    ui: Interface,
    selection: Selection = EVERYTHING,
    world: World = ALONE,
    known: KnownDevices | None = None,
) -> Outcome:
    """Run every step that is not done; return what there is now.

    A failing step of one target does not stop the other targets; a failing step that all of them need
    does. What was made is kept in either case. With a `world` of several processes this is rank 0's part; the
    others call `follow`.

    Raises:
        PipelineError: a step that everything else needs failed, or `selection.first` lacks what comes before it.
        TrainingPaused: as `selection.pause_after` asks for.
    """
    steps = steps_of(config, selection.until)
    store.clean_drafts({step.id for step in steps if selection.forced(step.stage)})
    known = known or known_devices(store, ui.note)
    sharing = Sharing(config, store, ui.note)
    running = _Running(config, store, ui, selection, world, known, sharing, read_last(store, config))
    for lanes in _lanes(steps, config):
        remote = [lane for device, lane in lanes.items() if device != LOCAL]
        if len(remote) > 1:
            _at_once(remote, running)
        else:
            for lane in remote:
                _run_lane(lane, running)
        _run_lane(lanes.get(LOCAL, []), running)
    outcome = running.outcome
    outcome.failures = {s.id: outcome.failures[s.id] for s in steps if s.id in outcome.failures}
    return outcome


def follow(world: World) -> None:
    """The part of every process but rank 0: run the stages that rank 0 runs together, until `dismiss`.

    Raises:
        PipelineError: a stage failed here.
        PeerLost: rank 0 is gone, which it (or the launcher) has explained.
    """
    stages = {stage.name: stage for stage in STAGES}
    nothing: Any = None
    while (order := world.broadcast(nothing)) is not None:
        name, work, root = order
        with tempfile.TemporaryDirectory(prefix="figkd-pipeline-") as out:
            _run_stage(Step(stages[name]), replace(work, out=Path(out), world=world), Store(root))


def dismiss(world: World) -> None:
    """End `follow` in the other processes."""
    world.broadcast(None)


@dataclass
class _Running:
    """A run that goes on: what it was asked, and what it has made."""

    config: DeployConfig
    store: Store
    ui: Interface
    selection: Selection
    world: World
    known: KnownDevices
    sharing: Sharing
    last: dict[str, str]
    begun: float = field(default_factory=time.time)
    outcome: Outcome = field(default_factory=Outcome)
    guard: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)


def _lanes(steps: Sequence[Step], config: DeployConfig) -> Iterator[dict[str, list[Step]]]:
    """Steps that may run at once, by device; each device's own steps follow each other.

    Steps of targets that come after each other are divided; every other step is alone.
    """
    divided: dict[str, list[Step]] = {}
    for step in steps:
        if step.target:
            divided.setdefault(config.targets[step.target].device, []).append(step)
            continue
        if divided:
            yield divided
            divided = {}
        yield {LOCAL: [step]}
    if divided:
        yield divided


def _at_once(lanes: Sequence[Sequence[Step]], running: _Running) -> None:
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="device") as pool:
        futures = [pool.submit(_run_lane, lane, running) for lane in lanes]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C among them: only this thread gets it
            running.stopped.set()
            abort_sessions()
            raise


def _run_lane(lane: Sequence[Step], running: _Running) -> None:
    config, outcome = running.config, running.outcome
    for step in lane:
        if running.stopped.is_set():
            return
        broken = [i for i in input_ids(step, config) if i not in outcome.artifacts]
        without = running.selection.only_forced and not running.selection.forced(step.stage)
        if broken and (step.target or without):
            continue  # its target failed earlier, and said so
        try:
            _done(step, running)
        except PipelineError as error:
            if not step.target:
                raise
            outcome.failures[step.id] = error
            running.ui.step_failed(step.id, error)


def _done(step: Step, running: _Running) -> None:
    outcome = running.outcome
    try:
        recipe = recipe_of(
            step, running.config, running.store, outcome.artifacts, outcome.failures, running.known
        )
        artifact = _make(step, recipe, running)
        if artifact is None:
            return
        with running.guard:
            outcome.artifacts[step.id] = artifact
            running.last[step.id] = artifact.path.name
            write_json(last_path(running.store, running.config), running.last)
    except OSError as error:  # outside the stage: a lock, a draft, a manifest
        raise environment_fault(error, step.id) from error


def _make(step: Step, recipe: Recipe, running: _Running) -> Artifact | None:
    """The artifact of a step; None where it is not there, and only others are asked for."""
    config, store, ui, selection = running.config, running.store, running.ui, running.selection
    outcome, world = running.outcome, running.world
    waits = partial(ui.note, f"{step.id}: another run is making this; waiting for it")
    with store.lock(recipe, waits), ExitStack() as claims:
        artifact = store.find(recipe)
        if artifact is not None and (damage := store.damage(artifact)):
            place = store.set_aside(artifact)
            ui.note(
                f"{step.id}: the stored artifact is damaged ({damage}); made again, the old one is in {place}"
            )
            artifact = None
        forced = selection.forced(step.stage)
        if artifact is not None and not forced:
            store.pin(artifact)
            ui.step_cached(step.id, step.stage.summary(artifact.path))
            return artifact
        if selection.only_forced and not forced:
            return None
        if artifact is None:
            claim = running.sharing.claim(step.stage, recipe, take=not forced)
            if (taken := claims.enter_context(claim)) is not None:
                store.pin(taken)
                ui.step_cached(step.id, step.stage.summary(taken.path))
                return taken
        if selection.first is not None and not forced:
            raise ConfigError(
                f"--from {selection.first} needs the artifact of '{step.id}', which does not exist",
                fix="run once without --from",
            )
        device = device_at(step, config)
        if device is not None and (fault := running.known.fault(device)):
            raise DeviceFault(fault.what, where=step.id, fix=fault.fix)
        reason = (
            "asked for"
            if artifact is not None
            else why_run(recipe, store.named(step.id, running.last.get(step.id)), begun=store.begun(recipe))
        )
        progress = ui.step_started(step.id, reason)
        started = time.monotonic()
        with store.draft(recipe) as draft:
            scratch = store.scratch(recipe)
            with running.guard:
                note_begun(store, config.name, scratch)
            work = Work(
                arguments=recipe.arguments,
                inputs={
                    i: outcome.artifacts[i].path for i in input_ids(step, config) if i in outcome.artifacts
                },
                sources={name: source.root for name, source in step.stage.sources(config).items()},
                out=draft,
                scratch=scratch,
                progress=progress,
                world=world,
                place=OnDevice(device) if device else HERE,
                note=ui.note,
                caches=store.caches,
                since=running.begun if forced else 0.0,
                digests=digests_of(config, store),
                pause_after=selection.pause_after,
            )
            if step.stage.together:
                # Neither a terminal nor a group of processes can be sent.
                sent = replace(work, progress=no_progress, note=no_note, world=ALONE)
                world.broadcast((step.stage.name, sent, store.root))
            _run_stage(step, work, store)
            seconds = time.monotonic() - started
            artifact = store.commit(
                recipe, draft, volatile=step.stage.volatile, provenance=_provenance(config, seconds)
            )
            store.pin(artifact)
        outcome.ran.append(step.id)
        ui.step_finished(step.id, step.stage.summary(artifact.path), seconds, artifact.path)
        running.sharing.push(step.stage, artifact)
        return artifact


def _run_stage(step: Step, work: Work, store: Store) -> None:
    try:
        step.stage.run(work)
    except TrainingPaused:
        raise
    except PipelineError as error:
        error.where = error.where or step.id
        raise
    except BackendMissing as error:
        raise EnvironmentFault(error.what, where=step.id, fix=error.fix) from error
    except (FigkdError, ExportError) as error:
        raise StageFailed(error.what, where=step.id, fix=error.fix) from error
    except MemoryError as error:
        raise out_of_memory(step.id) from error
    except OSError as error:
        raise environment_fault(error, step.id) from error
    except Exception as error:
        if theirs := own_network.at_work(error):
            raise StageFailed(theirs.what, where=step.id, fix=theirs.fix) from theirs
        # A defect of ours: keep the traceback out of the user's way, but keep it.
        raise defect(error, step.id, store.root / "logs") from error


def _provenance(config: DeployConfig, seconds: float) -> Json:
    from pipeline import __version__

    packages = ("torch", "timm", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "PyWavelets", "numpy")
    return {
        "config": config.name,
        "seconds": round(seconds, 3),
        "pipeline": __version__,
        "git": environment.git_revision(),
        "cpu": environment.cpu_model(),
        "gpu": environment.gpu_name(),
        "packages": environment.versions(packages),
    }
