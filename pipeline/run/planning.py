"""Which steps a config needs, which of them are done already, and why the others have to run.

Each step's recipe names the digests of its inputs, so a plan is exact up to the first step that has to run; what
follows it is planned again once its outcome is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from figkd.data.content import FileDigests
from figkd.errors import FigkdError
from pipeline.config.schema import DeployConfig
from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault, EnvironmentFault, PipelineError
from pipeline.core.faults import environment_fault
from pipeline.core.files import read_bytes, read_json, write_bytes
from pipeline.core.fingerprint import file_digests, fingerprint
from pipeline.core.store import Artifact, Recipe, Store
from pipeline.devices.known import KnownDevices, device_of
from pipeline.places.int8_layouts import int8_layouts
from pipeline.places.place import no_note
from pipeline.stages.base import Source, Stage
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
    """Which steps to run again and where to stop, by stage name."""

    first: str | None = None
    until: str | None = None
    force: frozenset[str] = frozenset()
    only_forced: bool = False
    """What is not there of the other stages is done without."""
    pause_after: int | None = None
    """Pause the student's training after so many epochs, if it is not finished."""

    def forced(self, stage: Stage) -> bool:
        """Whether this stage runs even if its artifact exists."""
        order = [s.name for s in STAGES]
        after_first = self.first is not None and order.index(stage.name) >= order.index(self.first)
        return after_first or stage.name in self.force


EVERYTHING = Selection()
"""Every step that is not done."""


@dataclass(frozen=True)
class Planned:
    """What would happen to a step, and why."""

    step: Step
    state: Literal["cached", "run"]
    reason: str
    artifact: Artifact | None = None


def steps_of(config: DeployConfig, until: str | None = None) -> list[Step]:
    """The steps of a config in the order in which they run."""
    steps: list[Step] = []
    for stage in STAGES:
        steps += [Step(stage, target) for target in config.targets] if stage.per_target else [Step(stage)]
        if stage.name == until:
            break
    return steps


def plan(
    config: DeployConfig, store: Store, selection: Selection = EVERYTHING, known: KnownDevices | None = None
) -> list[Planned]:
    """What `run` would do, without doing it; devices are asked for their facts."""
    known = known or known_devices(store)
    done: dict[str, Artifact] = {}
    planned: list[Planned] = []
    last = read_last(store, config)
    for step in steps_of(config, selection.until):
        waiting = [i for i in input_ids(step, config) if i not in done]
        if waiting:
            planned.append(Planned(step, "run", f"after {', '.join(waiting)}"))
            continue
        if step.target:
            known.ask(device for target in config.targets.values() if (device := device_of(target)))
        try:
            recipe = recipe_of(step, config, store, done, {}, known)
        except DeviceFault as fault:
            planned.append(Planned(step, "run", fault.what))
            continue
        artifact = store.find(recipe)
        if artifact is None:
            why = why_run(recipe, store.named(step.id, last.get(step.id)), begun=store.begun(recipe))
            planned.append(Planned(step, "run", why))
        elif selection.forced(step.stage):
            planned.append(Planned(step, "run", "asked for"))
        elif damage := store.damage(artifact):
            planned.append(Planned(step, "run", f"its artifact is damaged: {damage}"))
        else:
            done[step.id] = artifact
            planned.append(Planned(step, "cached", "", artifact))
    return planned


def known_devices(store: Store, note: Callable[[str], None] = no_note) -> KnownDevices:
    """The devices of a run, as far as a store remembers them."""
    return KnownDevices(store.root / "devices", note)


def last_artifact(step: str, config: DeployConfig, store: Store) -> Artifact | None:
    """What a step of this config came to in the run before, if that is still there."""
    return store.named(step, read_last(store, config).get(step))


def artifacts_of(config: DeployConfig, store: Store) -> dict[str, Artifact]:
    """The finished artifacts of a config, by step, as far as they follow from each other."""
    made = {p.step.id: p.artifact for p in plan(config, store) if p.artifact is not None}
    for artifact in made.values():
        store.pin(artifact)
    return made


def input_ids(step: Step, config: DeployConfig) -> list[str]:
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


def recipe_of(
    step: Step,
    config: DeployConfig,
    store: Store,
    done: Mapping[str, Artifact],
    failures: Mapping[str, PipelineError],
    known: KnownDevices,
) -> Recipe:
    """What identifies a step's artifact: its arguments, the digests of its inputs, and facts of its place.

    Raises:
        EnvironmentFault: a file from outside cannot be read.
        DeviceFault: the target's device cannot be reached, and never was.
    """
    arguments = step.stage.arguments(config, step.target)
    if step.stage.layout_arguments is not None:
        arguments |= step.stage.layout_arguments(config, step.target, int8_layouts(config, known))
    if step.stage.name == REPORT:
        arguments["failures"] = {
            i: {"what": e.what, "fix": e.fix, "exit_code": int(e.exit_code)} for i, e in failures.items()
        }
    inputs = {i: done[i].digest for i in input_ids(step, config) if i in done}
    for name, source in step.stage.sources(config).items():
        inputs[f"source:{name}"] = source_digest(source, config, store, f"{step.id}: {name}")
    device = device_at(step, config)
    if device is None:
        facts = step.stage.environment(arguments)
    else:
        facts = step.stage.device_environment(known.facts(device), arguments)
    return Recipe(step.id, step.stage.version, arguments, inputs, dict(facts))


def source_digest(source: Source, config: DeployConfig, store: Store, where: str) -> str:
    """The sha256 (hex) over the files of a source.

    Raises:
        EnvironmentFault: one of them cannot be read.
    """
    try:
        return fingerprint(source.root, source.files(), _memory(config, store))
    except FigkdError as error:
        raise EnvironmentFault(error.what, where=where, fix=error.fix) from error
    except OSError as error:
        raise environment_fault(error, where) from error


def digests_of(config: DeployConfig, store: Store) -> FileDigests:
    """The sha256 of source files, as far as possible remembered from when a key was made."""
    return partial(file_digests, memory=_memory(config, store))


def remember_files_of(other: str, config: DeployConfig, store: Store) -> None:
    """Let a config that has none yet begin with another one's memory of digests: the same files are not read again."""
    mine, theirs = _memory(config, store), store.root / "fingerprints" / f"{other}.json"
    if not mine.exists() and theirs.is_file():
        write_bytes(mine, read_bytes(theirs))


def _memory(config: DeployConfig, store: Store) -> Path:
    return store.root / "fingerprints" / f"{config.name}.json"


def device_at(step: Step, config: DeployConfig) -> Device | None:
    """The device that a step works on; None for this machine."""
    return device_of(config.targets[step.target]) if step.target else None


def why_run(recipe: Recipe, old: Artifact | None, *, begun: bool) -> str:
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


def last_path(store: Store, config: DeployConfig) -> Path:
    """The file that says what each step of a config came to in the run before."""
    return store.root / "last" / f"{config.name}.json"


def read_last(store: Store, config: DeployConfig) -> dict[str, str]:
    """What it says: step to name of its artifact; empty where it cannot be read."""
    try:
        found = read_json(last_path(store, config))
    except (OSError, ValueError):
        return {}
    names = found.items() if isinstance(found, dict) else ()
    return {step: name for step, name in names if isinstance(name, str)}
