"""Which steps a config needs, which of them are done already, and doing the others.

Each step's recipe names the digests of its inputs, so a plan is exact up to the first step that has to
run; what follows it is planned again once its outcome is known. Targets on different devices are worked on at the same
time; those of this machine come after them, alone, so that nothing disturbs what is timed here.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from export.errors import BackendMissing, ExportError
from figkd.data.content import FileDigests
from figkd.distributed import ALONE, World
from figkd.errors import FigkdError
from figkd.progress import Progress, no_progress
from pipeline.config.schema import DeployConfig
from pipeline.core.address import LOCAL, Device
from pipeline.core.errors import ConfigError, DeviceFault, EnvironmentFault, PipelineError, StageFailed
from pipeline.core.faults import defect, environment_fault, out_of_memory
from pipeline.core.files import read_json, write_json
from pipeline.core.fingerprint import file_digests, fingerprint
from pipeline.core.store import Artifact, Recipe, Store
from pipeline.devices.known import KnownDevices, device_of
from pipeline.devices.session import abort_sessions
from pipeline.places import environment
from pipeline.places.int8_layouts import int8_layouts
from pipeline.stages.base import Stage, Work, no_note
from pipeline.stages.table import REPORT, STAGES


@dataclass(frozen=True)
class Step:
    """A stage, for one target if it is per target."""

    stage: Stage
    target: str = ""

    @property
    def id(self) -> str:
        """Name in messages and folders, such as `distill` or `build@cpu`."""
        return f"{self.stage.name}@{self.target}" if self.target else self.stage.name


@dataclass(frozen=True)
class Selection:
    """Which steps to run anew and where to stop, by stage name."""

    first: str | None = None
    until: str | None = None
    force: frozenset[str] = frozenset()
    only_forced: bool = False
    """What is not there of the other stages is done without."""

    def forced(self, stage: Stage) -> bool:
        """Whether this stage runs even if its artifact exists."""
        order = [s.name for s in STAGES]
        after_first = self.first is not None and order.index(stage.name) >= order.index(self.first)
        return after_first or stage.name in self.force


@dataclass(frozen=True)
class Planned:
    """What would happen to a step, and why."""

    step: Step
    state: Literal["cached", "run"]
    reason: str
    artifact: Artifact | None = None


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


def steps_of(config: DeployConfig, until: str | None = None) -> list[Step]:
    """The steps of a config in the order in which they run."""
    steps: list[Step] = []
    for stage in STAGES:
        steps += [Step(stage, target) for target in config.targets] if stage.per_target else [Step(stage)]
        if stage.name == until:
            break
    return steps


def plan(
    config: DeployConfig, store: Store, selection: Selection = Selection(), known: KnownDevices | None = None
) -> list[Planned]:
    """What `run` would do, without doing it; devices are asked for their facts."""
    known = known or known_devices(store)
    done: dict[str, Artifact] = {}
    planned: list[Planned] = []
    last = _read_last(store, config)
    for step in steps_of(config, selection.until):
        waiting = [i for i in _input_ids(step, config) if i not in done]
        if waiting:
            planned.append(Planned(step, "run", f"after {', '.join(waiting)}"))
            continue
        if step.target:
            known.ask(device for target in config.targets.values() if (device := device_of(target)))
        try:
            recipe = _recipe(step, config, store, done, {}, known)
        except DeviceFault as fault:
            planned.append(Planned(step, "run", fault.what))
            continue
        artifact = store.find(recipe)
        if artifact is None:
            why = _why(recipe, store.named(step.id, last.get(step.id)), begun=store.begun(recipe))
            planned.append(Planned(step, "run", why))
        elif selection.forced(step.stage):
            planned.append(Planned(step, "run", "asked for"))
        elif damage := store.damage(artifact):
            planned.append(Planned(step, "run", f"its artifact is damaged: {damage}"))
        else:
            done[step.id] = artifact
            planned.append(Planned(step, "cached", "", artifact))
    return planned


def run(
    config: DeployConfig,
    store: Store,
    ui: Interface,
    selection: Selection = Selection(),
    world: World = ALONE,
    known: KnownDevices | None = None,
) -> Outcome:
    """Run every step that is not done; return what there is now.

    A failing step of one target does not stop the other targets; a failing step that all of them need
    does. What was made is kept in either case. With a `world` of several processes this is rank 0's part; the
    others call `follow`.

    Raises:
        PipelineError: a step that everything else needs failed, or `selection.first` lacks what comes before it.
    """
    steps = steps_of(config, selection.until)
    store.clean_drafts({step.id for step in steps if selection.forced(step.stage)})
    known = known or known_devices(store, ui)
    running = _Running(config, store, ui, selection, world, known, _read_last(store, config))
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


def known_devices(store: Store, ui: Interface | None = None) -> KnownDevices:
    """The devices of a run, as far as a store remembers them."""
    return KnownDevices(store.root / "devices", ui.note if ui else no_note)


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


def last_artifact(step: str, config: DeployConfig, store: Store) -> Artifact | None:
    """What a step of this config came to in the run before, if that is still there."""
    return store.named(step, _read_last(store, config).get(step))


def artifacts_of(config: DeployConfig, store: Store) -> dict[str, Artifact]:
    """The finished artifacts of a config, by step, as far as they follow from each other."""
    made = {p.step.id: p.artifact for p in plan(config, store) if p.artifact is not None}
    for artifact in made.values():
        store.pin(artifact)
    return made


@dataclass
class _Running:
    """A run that goes on: what it was asked, and what it has made."""

    config: DeployConfig
    store: Store
    ui: Interface
    selection: Selection
    world: World
    known: KnownDevices
    last: dict[str, str]
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
        broken = [i for i in _input_ids(step, config) if i not in outcome.artifacts]
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
        recipe = _recipe(
            step, running.config, running.store, outcome.artifacts, outcome.failures, running.known
        )
        artifact = _make(step, recipe, running)
        if artifact is None:
            return
        with running.guard:
            outcome.artifacts[step.id] = artifact
            running.last[step.id] = artifact.path.name
            write_json(_last_path(running.store, running.config), running.last)
    except OSError as error:  # outside the stage: a lock, a draft, a manifest
        raise environment_fault(error, step.id) from error


def _make(step: Step, recipe: Recipe, running: _Running) -> Artifact | None:
    """The artifact of a step; None where it is not there, and only others are asked for."""
    config, store, ui, selection = running.config, running.store, running.ui, running.selection
    outcome, world = running.outcome, running.world
    with store.lock(recipe, lambda: ui.note(f"{step.id}: another run is making this; waiting for it")):
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
        if selection.first is not None and not forced:
            raise ConfigError(
                f"--from {selection.first} needs the artifact of '{step.id}', which does not exist",
                fix="run once without --from",
            )
        device = _device(step, config)
        if device is not None and (fault := running.known.fault(device)):
            raise DeviceFault(fault.what, where=step.id, fix=fault.fix)
        reason = (
            "asked for"
            if artifact is not None
            else _why(recipe, store.named(step.id, running.last.get(step.id)), begun=store.begun(recipe))
        )
        progress = ui.step_started(step.id, reason)
        started = time.monotonic()
        with store.draft(recipe) as draft:
            scratch = store.scratch(recipe)
            work = Work(
                arguments=recipe.arguments,
                inputs={
                    i: outcome.artifacts[i].path for i in _input_ids(step, config) if i in outcome.artifacts
                },
                sources={name: source.root for name, source in step.stage.sources(config).items()},
                out=draft,
                scratch=scratch,
                progress=progress,
                world=world,
                device=device,
                note=ui.note,
                caches=store.caches,
                digests=digests_of(config, store),
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
        return artifact


def _run_stage(step: Step, work: Work, store: Store) -> None:
    try:
        step.stage.run(work)
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
    except Exception as error:  # a defect of ours: keep the traceback out of the user's way, but keep it
        raise defect(error, step.id, store.root / "logs") from error


def _input_ids(step: Step, config: DeployConfig) -> list[str]:
    """Ids of the steps that a step reads; for the report, whatever there is of each target."""
    by_name = {stage.name: stage for stage in STAGES}
    ids: list[str] = []
    for name in step.stage.inputs:
        if not by_name[name].per_target:
            ids.append(name)
        elif step.target:
            ids.append(f"{name}@{step.target}")
        else:
            ids += [f"{name}@{target}" for target in config.targets]
    return ids


def _recipe(
    step: Step,
    config: DeployConfig,
    store: Store,
    done: Mapping[str, Artifact],
    failures: Mapping[str, PipelineError],
    known: KnownDevices,
) -> Recipe:
    arguments = step.stage.arguments(config, step.target)
    if step.stage.layout_arguments is not None:
        arguments |= step.stage.layout_arguments(config, step.target, int8_layouts(config, known))
    if step.stage.name == REPORT:
        arguments["failures"] = {
            i: {"what": e.what, "fix": e.fix, "exit_code": int(e.exit_code)} for i, e in failures.items()
        }
    inputs = {i: done[i].digest for i in _input_ids(step, config) if i in done}
    for name, source in step.stage.sources(config).items():
        try:
            digest = fingerprint(source.root, source.files(), _memory(config, store))
        except FigkdError as error:
            raise EnvironmentFault(error.what, where=f"{step.id}: {name}", fix=error.fix) from error
        except OSError as error:
            raise environment_fault(error, f"{step.id}: {name}") from error
        inputs[f"source:{name}"] = digest
    device = _device(step, config)
    if device is None:
        facts = step.stage.environment(arguments)
    else:
        facts = step.stage.device_environment(known.facts(device), arguments)
    return Recipe(step.id, step.stage.version, arguments, inputs, dict(facts))


def digests_of(config: DeployConfig, store: Store) -> FileDigests:
    """The sha256 of source files, as far as possible remembered from when a key was made."""
    return partial(file_digests, memory=_memory(config, store))


def _memory(config: DeployConfig, store: Store) -> Path:
    return store.root / "fingerprints" / f"{config.name}.json"


def _device(step: Step, config: DeployConfig) -> Device | None:
    return device_of(config.targets[step.target]) if step.target else None


def _why(recipe: Recipe, old: Artifact | None, *, begun: bool) -> str:
    """Why a step has to run: it was begun, or what differs from the artifact that this config used before."""
    if begun:
        return "begun before, and not finished"
    if old is None or old.manifest is None:
        return "never made"
    before = old.manifest.recipe
    changes = ["the stage itself changed"] if before.version != recipe.version else []
    changes += _differences(before.arguments, recipe.arguments, "")
    for name in sorted(set(before.inputs) | set(recipe.inputs)):
        if before.inputs.get(name) != recipe.inputs.get(name):
            changes.append(f"{name} has other contents")
    changes += _differences(before.environment, recipe.environment, "environment ")
    return "; ".join(changes) or "its artifact is gone"


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in sorted(set(before) | set(now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} -> {new}"


def _provenance(config: DeployConfig, seconds: float) -> dict[str, Any]:
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


def _last_path(store: Store, config: DeployConfig) -> Path:
    return store.root / "last" / f"{config.name}.json"


def _read_last(store: Store, config: DeployConfig) -> dict[str, str]:
    try:
        found = read_json(_last_path(store, config))
    except (OSError, ValueError):
        return {}
    names = found.items() if isinstance(found, dict) else ()
    return {step: name for step, name in names if isinstance(name, str)}
