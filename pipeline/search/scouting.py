"""Measuring untrained candidates on the targets of a config: latency, memory and size do not depend on the weights.

A measurement of a candidate on a target is an artifact of the store, found by everything that decides it. Networks,
graphs and engines are made for it, and not kept: they take space, and a trained network has others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from figkd.progress import Progress
from pipeline.config.schema import DeployConfig
from pipeline.core.address import LOCAL
from pipeline.core.errors import DeviceFault, EnvironmentFault, PipelineError
from pipeline.core.faults import environment_fault
from pipeline.core.store import Artifact, Recipe, Store
from pipeline.core.store_usage import note_scouted
from pipeline.devices.known import KnownDevices
from pipeline.devices.session import abort_sessions
from pipeline.places import environment
from pipeline.places.int8_layouts import int8_layouts
from pipeline.places.place import Context
from pipeline.results.rows.row import read_list, write_list
from pipeline.results.rows.scouted import Candidate, ScoutRow
from pipeline.run.back_ends import device_faults, judge
from pipeline.run.conductor import Interface
from pipeline.run.history import earlier_seconds
from pipeline.run.planning import known_devices
from pipeline.search import measuring
from pipeline.search.jobs import Recipes, recipes, targets_of
from pipeline.search.maker import CannotBeMade, Maker
from pipeline.search.material import Sample, sample_of
from pipeline.search.measuring import Job
from pipeline.search.untrained import Untrained

_ROWS = "rows.json"


@dataclass
class Scouted:
    """What a scouting found.

    Attributes:
        rows: by candidate and target, in the order of the candidates and of the config.
        classes: that the networks were built for.
        measured: candidates and targets that were measured now, and not taken from the store.
        failures: by target, why it cannot be worked with; the others went on.
        foreseen_s: what measuring was expected to take, in s; 0 where there was nothing to measure, or nothing known.
        took_s: what it took, in s.
    """

    rows: list[ScoutRow] = field(default_factory=list)
    classes: int = 0
    measured: int = 0
    failures: dict[str, PipelineError] = field(default_factory=dict)
    foreseen_s: float = 0.0
    took_s: float = 0.0


def scout(
    config: DeployConfig,
    candidates: Sequence[Candidate],
    store: Store,
    ui: Interface,
    known: KnownDevices | None = None,
) -> list[ScoutRow]:
    """The rows of `measure_candidates`."""
    return measure_candidates(config, candidates, store, ui, known).rows


def measure_candidates(
    config: DeployConfig,
    candidates: Sequence[Candidate],
    store: Store,
    ui: Interface,
    known: KnownDevices | None = None,
) -> Scouted:
    """Measure every candidate in every precision on every target of `config.scout.targets`.

    What was measured before with the same network, versions and settings is taken from the store. Targets on different
    devices are worked on at the same time; those of this machine after them, alone.

    Args:
        config: a deploy config; of it count `data`, `export`, `precision`, `targets`, `budgets` and `scout`.
        candidates: networks and sizes.
        store: where measurements are kept.
        ui: is told what goes on, as of a run.
        known: the run's devices.

    Returns:
        For each candidate and target a row for each precision; one that could not be measured says why.

    Raises:
        PipelineError: what all candidates need (data, disk, a back end of every target) is missing.
    """
    known = known or known_devices(store, ui.note)
    store.clean_drafts()
    names = targets_of(config)
    scoped = config.model_copy(update={"targets": {name: config.targets[name] for name in names}})
    faults = device_faults(scoped, names, known)
    judged = judge(scoped, names, known, building=True)
    for fault in judged.faults:
        raise fault
    for text in judged.notes:
        ui.note(text)
    sample = sample_of(config, store, ui, known)
    with Maker() as maker:
        scouting = _Scouting(config, store, ui, known, sample, maker, dict(faults))
        layouts = int8_layouts(scoped, known)
        foreseen_s, started = scouting.foresee(candidates, layouts), time.monotonic()
        for number, candidate in enumerate(candidates, start=1):
            scouting.candidate(candidate, f"{number}/{len(candidates)}", layouts)
    note_scouted(store, config.name, scouting.used)
    took_s = time.monotonic() - started
    return Scouted(scouting.rows, len(sample.classes), scouting.measured, scouting.down, foreseen_s, took_s)


@dataclass
class _Scouting:
    """A scouting that goes on."""

    config: DeployConfig
    store: Store
    ui: Interface
    known: KnownDevices
    sample: Sample
    maker: Maker
    down: dict[str, PipelineError]
    """Targets that cannot be worked with, and why."""
    rows: list[ScoutRow] = field(default_factory=list)
    used: dict[str, list[str]] = field(default_factory=dict)
    """Artifacts by step."""
    measured: int = 0

    def foresee(self, candidates: Sequence[Candidate], layouts: dict[str, str]) -> float:
        """What is to be measured, and what that will take, in s: said, by what it took here before."""
        todo: Counter[str] = Counter()
        for candidate in candidates:
            found = self._recipes(candidate, layouts)
            if not isinstance(found, PipelineError):
                pending = {name: recipe for name, (_, recipe) in found.jobs.items() if name not in self.down}
                todo.update(recipe.step for recipe in pending.values() if self.store.find(recipe) is None)
        if not todo.total():
            return 0.0
        earlier = earlier_seconds(self.store, todo)
        foreseen = sum(count * earlier.get(step, 0.0) for step, count in todo.items())
        known = all(step in earlier for step in todo)
        time_words = (
            f"about {foreseen / 60:.1f} min by what it took before"
            if known
            else "nothing like it was measured yet"
        )
        self.ui.note(f"{todo.total()} measurements to make, of {len(candidates)} candidates: {time_words}")
        return foreseen if known else 0.0

    def candidate(self, candidate: Candidate, number: str, layouts: dict[str, str]) -> None:
        """Measure one candidate wherever that was not done before."""
        found = self._recipes(candidate, layouts)
        if isinstance(found, PipelineError):
            self.ui.step_failed(number, found)
            self.rows += [
                ScoutRow(
                    candidate=candidate, target=name, backend=self.config.targets[name].engine, precision="fp32",
                    state="failed", reason=found.what, fix=found.fix,
                )
                for name in targets_of(self.config)
            ]  # fmt: skip
            return
        known = {name: rows for name, (_, recipe) in found.jobs.items() if (rows := self._known(recipe))}
        todo = {name: job for name, job in found.jobs.items() if name not in known and name not in self.down}
        if todo:
            known |= self._measure(candidate, number, found, todo)
        else:
            self.ui.step_cached(number, f"{candidate.id}: {_said(known)}")
        for name in targets_of(self.config):
            if name in known:
                self.rows += [row.model_copy(update={"candidate": candidate}) for row in known[name]]
            else:
                self.rows += self._absent(candidate, name, found)

    def _recipes(self, candidate: Candidate, layouts: dict[str, str]) -> Recipes | PipelineError:
        sample = self.sample
        try:
            return recipes(
                self.config, candidate, len(sample.classes), layouts, self.known, self.store, real=sample.real,
                without=self.down,
            )  # fmt: skip
        except EnvironmentFault as fault:
            return fault

    def _known(self, recipe: Recipe) -> list[ScoutRow]:
        """Rows of a measurement that was made before; empty if it was not."""
        artifact = self.store.find(recipe)
        if artifact is None:
            return []
        if damage := self.store.damage(artifact):
            place = self.store.set_aside(artifact)
            self.ui.note(
                f"{recipe.step}: a measurement is damaged ({damage}); made again, the old one is in {place}"
            )
            return []
        return self._rows(artifact)

    def _rows(self, artifact: Artifact) -> list[ScoutRow]:
        self.store.pin(artifact)
        self.used.setdefault(artifact.path.parent.name, []).append(artifact.path.name)
        return read_list(artifact.path / _ROWS, ScoutRow)

    def _absent(self, candidate: Candidate, name: str, found: Recipes) -> list[ScoutRow]:
        """Rows of a target that cannot be worked with."""
        error = self.down.get(name)
        what, fix = (
            (error.what, error.fix) if error else ("nothing is known of its CPU", "switch the device on")
        )
        if name in found.jobs:
            return measuring.failed(found.jobs[name][0], what, fix)
        engine = self.config.targets[name].engine
        return [
            ScoutRow(
                candidate=candidate,
                target=name,
                backend=engine,
                precision="fp32",
                state="failed",
                reason=what,
                fix=fix,
            )
        ]

    def _measure(
        self, candidate: Candidate, number: str, found: Recipes, todo: dict[str, tuple[Job, Recipe]]
    ) -> dict[str, list[ScoutRow]]:
        """Make the candidate, then measure it: on devices at the same time, then here."""
        store = self.store
        waits = lambda: self.ui.note(f"{candidate.id}: another run is measuring this; waiting for it")  # noqa: E731
        with store.lock(found.made_of, waits), store.draft(found.made_of) as folder:
            # Another process may have measured it while this one waited.
            known = {name: rows for name, (_, recipe) in todo.items() if (rows := self._known(recipe))}
            todo = {name: job for name, job in todo.items() if name not in known}
            if not todo:
                self.ui.step_cached(number, f"{candidate.id}: {_said(known)}")
                return known
            started = time.monotonic()
            progress = self.ui.step_started(number, candidate.id)
            made = self.maker.make(
                found.making,
                self.sample.material(),
                folder,
                store.root / "logs",
                _noted(progress, candidate.id),
            )
            if isinstance(made, CannotBeMade):
                self.ui.step_failed(number, PipelineError(f"{candidate.id}: {made.reason}", fix=made.fix))
                return known | {
                    name: self.keep(
                        recipe, measuring.failed(job, made.reason, made.fix), lasting=made.lasting
                    )
                    for name, (job, recipe) in todo.items()
                }
            making_s = (time.monotonic() - started) / len(todo)
            here = [name for name in todo if self.config.targets[name].device == LOCAL]
            lanes: dict[str, list[str]] = {}
            for name in todo:
                if name not in here:
                    lanes.setdefault(self.config.targets[name].device, []).append(name)
            work = _Work(self, made, folder, todo, _noted(progress, candidate.id), making_s)
            measured = work.at_once(list(lanes.values())) | work.lane(here)
            if measured:
                self.ui.step_finished(
                    number, f"{candidate.id}: {_said(measured)}", time.monotonic() - started, folder
                )
            else:
                self.ui.step_failed(number, PipelineError(f"{candidate.id}: no target could be worked with"))
            return known | measured

    def keep(
        self, recipe: Recipe, rows: Sequence[ScoutRow], *, seconds: float = 0.0, lasting: bool = True
    ) -> list[ScoutRow]:
        """Put rows, and what they took, into the store, unless they may come out differently next time."""
        if not lasting:
            return list(rows)
        store = self.store
        with store.lock(recipe), store.draft(recipe) as draft:
            write_list(draft / _ROWS, rows)
            about = {"config": self.config.name, "seconds": round(seconds, 3), "cpu": environment.cpu_model()}
            artifact = store.commit(recipe, draft, provenance=about)
        self.measured += 1
        return self._rows(artifact)


@dataclass
class _Work:
    """A candidate that is made, and where it is to be measured."""

    scouting: _Scouting
    made: Untrained
    folder: Path
    todo: dict[str, tuple[Job, Recipe]]
    progress: Progress
    making_s: float
    """Share of each target in what making the candidate took."""

    def at_once(self, lanes: Sequence[Sequence[str]]) -> dict[str, list[ScoutRow]]:
        """Measure on several devices at the same time; the targets of each follow each other."""
        if len(lanes) < 2:
            return self.lane(lanes[0]) if lanes else {}
        found: dict[str, list[ScoutRow]] = {}
        with ThreadPoolExecutor(len(lanes), thread_name_prefix="device") as pool:
            futures = [pool.submit(self.lane, lane) for lane in lanes]
            try:
                for future in as_completed(futures):
                    found |= future.result()
            except BaseException:  # Ctrl-C among them: only this thread gets it
                abort_sessions()
                raise
        return found

    def lane(self, names: Sequence[str]) -> dict[str, list[ScoutRow]]:
        """Measure on one machine, target after target; a device that is lost is left alone from then on."""
        found = {}
        for name in names:
            job, recipe = self.todo[name]
            begun = time.monotonic()
            folder, scratch = (self.folder / part / name for part in ("engines", "scratch"))
            for each in (folder, scratch):
                each.mkdir(parents=True)
            context = Context(scratch, self.progress, self.scouting.ui.note)
            try:
                rows = measuring.measure(job, self.made, folder, context, self.scouting.store.caches)
            except DeviceFault as fault:
                fault.where = fault.where or f"targets.{name}"
                self.scouting.down[name] = fault
                self.scouting.ui.step_failed(name, fault)
                continue
            except OSError as error:
                raise environment_fault(error, name) from error
            found[name] = self.scouting.keep(recipe, rows, seconds=self.making_s + time.monotonic() - begun)
        return found


def _noted(progress: Progress, name: str) -> Progress:
    return lambda done, total, note: progress(done, total, f"{name}: {note}" if note else name)


def _said(measured: dict[str, list[ScoutRow]]) -> str:
    """Medians, in one line."""
    parts = []
    for name, rows in measured.items():
        times = [f"{row.precision} {row.p50_ms:.3f} ms" for row in rows if row.p50_ms is not None]
        reasons = list(dict.fromkeys(row.reason for row in rows if row.p50_ms is None))
        parts.append(
            f"{name} {', '.join(times)}" if times else f"{name}: {reasons[0] if reasons else 'nothing'}"
        )
    return "; ".join(parts) or "no target"
