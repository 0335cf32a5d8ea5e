"""A search from its first wave to its last: draw, scout, train what can meet the budgets, halve.

Everything is decided from the trials' own files and from artifacts, and written before the next thing begins. A search
that is killed at any instant goes on to the same trials, the same promotions and the same front.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from pipeline.config.dimensions import Settings
from pipeline.config.schema import DeployConfig
from pipeline.config.search_file import LoadedSearch, trial_config
from pipeline.core.address import LOCAL
from pipeline.core.errors import ConfigError, DeviceFault, EnvironmentFault
from pipeline.core.locks import held
from pipeline.core.store import Store
from pipeline.results.rows.scouted import Candidate, ScoutRow
from pipeline.results.rows.trials import MOST_ATTEMPTS, SeedResult, Trial, read_trial, write_trial
from pipeline.run.conductor import Interface
from pipeline.search.attempts import Key, outcomes
from pipeline.search.front import promoted
from pipeline.search.points import Judge, engine_misses
from pipeline.search.propose import Told, propose
from pipeline.search.runners import Runner
from pipeline.search.scouted import candidates_that_fit
from pipeline.search.trial import Failure, Kind, TrialOutcome, TrialRequest
from pipeline.stages.table import STAGES

Scouting = Callable[[DeployConfig, Sequence[Candidate]], Sequence[ScoutRow]]
_SHARED = ("data", "teacher", "logits")
_COSTLESS = ("distill.", "teacher.")
"""Settings below these keys change no latency, memory or size."""
_NOT_OF_RESULTS = {"trials", "jobs", "engine", "slurm", "ray", "confirm", "name", "base", "wave"}
_NOT_OF_TRIALS = {"name", "output", "store", "search", "scout"}


@dataclass
class Studied:
    """What a search knows at its end."""

    trials: list[Trial] = field(default_factory=list)
    rows: dict[int, Sequence[ScoutRow]] = field(default_factory=dict)
    """Untrained engines by trial."""
    shared_seconds: float = 0.0
    """Data, teachers and logits, as far as they were made now."""


@dataclass
class Study:
    """A search at work.

    Attributes:
        search: what to do.
        store: shared by all trials.
        ui: is told what goes on.
        run: runs one trial.
        scouting: measures untrained networks.
        judge: tells good from bad.
    """

    search: LoadedSearch
    store: Store
    ui: Interface
    run: Runner
    scouting: Scouting
    judge: Judge
    done: Studied = field(default_factory=Studied)

    @property
    def folder(self) -> Path:
        """Where the trials' files are."""
        return study_folder(self.search, self.store) / "trials"

    def carry_out(self) -> Studied:
        """Run all waves.

        Raises:
            PipelineError: what every trial needs fails, or an objective's target cannot be measured.
        """
        first = 0
        while first < self.search.trials:
            count = min(self.search.wave, self.search.trials - first)
            numbers = self._drawn(first, count)
            if not numbers:
                break  # the space has no more points
            configs = self._configs(numbers)
            self._scout(configs)
            self._share(configs)
            self._train(configs)
            first += self.search.wave
        self.done.trials = [self._trial(number) for number in self._numbers()]
        return self.done

    def _drawn(self, first: int, count: int) -> list[int]:
        """The numbers of a wave's trials; those that have no file yet are drawn."""
        wave = range(first, first + count)
        known = {number for number in wave if read_trial(self.folder, number) is not None}
        if len(known) < count:
            told = [self._told(number) for number in range(first)]
            section = self.search.section
            drawn = propose(self.search.space, section.sampler, section.seed, told, count)
            for number, settings in zip(wave, drawn, strict=False):
                if number not in known:
                    self._write(Trial(number=number, settings=settings))
                    known.add(number)
        return sorted(known)

    def _told(self, number: int) -> Told:
        trial = self._trial(number)
        losses, violation = self.judge.told(trial, self.done.rows.get(number, ()))
        return Told(trial.settings, losses, violation)

    def _configs(self, numbers: Iterable[int]) -> dict[int, DeployConfig]:
        """The configs of the trials whose settings go together."""
        found = {}
        for number in numbers:
            trial = self._trial(number)
            try:
                found[number] = self._config(trial)
            except ConfigError as error:
                self._write(
                    trial.model_copy(update={"state": "failed", "reason": error.head, "fix": error.fix})
                )
        return found

    def _config(self, trial: Trial, extra: Settings | None = None) -> DeployConfig:
        return trial_config(self.search, trial.settings, trial_name(self.search, trial.number), extra)

    def _scout(self, configs: Mapping[int, DeployConfig]) -> None:
        """Measure the untrained networks, and exclude what cannot meet the budgets."""
        if not self.search.section.scout:
            return
        groups: dict[str, list[int]] = {}
        for number in configs:
            groups.setdefault(_cost_key(self._trial(number).settings), []).append(number)
        for numbers in groups.values():
            of = {number: _candidate(configs[number]) for number in numbers}
            config = trial_config(self.search, self._trial(numbers[0]).settings, self.search.name)
            rows = self.scouting(config, list(dict.fromkeys(of.values())))
            fitting = candidates_that_fit(rows, self.search.base.budgets)
            for number, candidate in of.items():
                mine = [row for row in rows if row.candidate == candidate]
                self.done.rows[number] = mine
                trial = self._trial(number)
                if candidate not in fitting and trial.state == "proposed":
                    what, fix = self._why_excluded(mine)
                    self._write(trial.model_copy(update={"state": "excluded", "reason": what, "fix": fix}))
        self._require_targets(configs)

    def _why_excluded(self, rows: Sequence[ScoutRow]) -> tuple[str, str]:
        timed = [row for row in rows if row.timed]
        if not timed:
            first = rows[0] if rows else None
            return (first.reason, first.fix) if first else ("nothing was measured of it", "")
        # The precision that comes closest says what is in the way.
        misses = min((engine_misses(row, self.search.base.budgets) for row in timed), key=len)
        reasons = "; ".join(f"{m.metric} {m.value:.4g} on {m.target}, {m.side} {m.limit:g}" for m in misses)
        return (
            f"untrained, it misses the budgets: {reasons}"
            if reasons
            else "it fits on no target in every budget",
            "",
        )

    def _require_targets(self, configs: Mapping[int, DeployConfig]) -> None:
        """Refuse objectives of a target on which nothing at all can be timed."""
        rows = [row for number in configs for row in self.done.rows.get(number, ())]
        for objective in self.search.objectives:
            mine = [row for row in rows if row.target == objective.target]
            if not objective.target or not mine or any(row.timed for row in mine):
                continue
            first = mine[0]
            device = self.search.base.targets[objective.target].device
            fault = EnvironmentFault if device == LOCAL else DeviceFault
            raise fault(
                f"nothing can be timed on target '{objective.target}': {first.reason or first.state}",
                where=f"objective {objective.name}",
                fix=first.fix or "take an objective of another target",
            )

    def _share(self, configs: Mapping[int, DeployConfig]) -> None:
        """Make what trials share, once: data, teachers, logits."""
        alive = {n: c for n, c in configs.items() if self._trial(n).state == "proposed"}
        groups: dict[str, list[int]] = {}
        for number, config in alive.items():
            groups.setdefault(_shared_key(config), []).append(number)
        requests: dict[Key, TrialRequest] = {
            (numbers[0], 0): self._request(configs[numbers[0]], "prepare") for numbers in groups.values()
        }
        of = {numbers[0]: numbers for numbers in groups.values()}
        tried: dict[Key, int] = {}

        def again(key: Key, failure: Failure) -> bool:
            tried[key] = tried.get(key, 0) + 1
            return not failure.final and tried[key] < MOST_ATTEMPTS

        for (first, _), outcome in self._outcomes("data, teacher", requests, again):
            self.done.shared_seconds += outcome.seconds
            if outcome.failure is None:
                continue
            for number in of[first]:
                self._failed(self._trial(number), outcome.failure)

    def _train(self, configs: Mapping[int, DeployConfig]) -> None:
        """Train the wave's trials, all for a few epochs and the best of them for more."""
        entered = [n for n in configs if self._trial(n).state != "excluded"]
        for epochs in self.search.rungs[:-1]:
            self._rung({n: configs[n] for n in entered if self._trial(n).state != "failed"}, epochs)
            # One that failed later was compared here, too: it must not make room for another one afterwards.
            reached = [n for n in entered if any(rung.epochs == epochs for rung in self._trial(n).rungs)]
            keep = self._promoted(reached, epochs)
            for number in set(reached) - set(keep):
                trial = self._trial(number)
                if trial.state not in ("failed", "paused"):
                    self._write(trial.model_copy(update={"state": "paused"}))
            entered = [n for n in reached if n in keep]
        self._finish({n: configs[n] for n in entered if self._trial(n).state != "failed"})

    def _promoted(self, numbers: Sequence[int], epochs: int) -> list[int]:
        halving = self.search.section.halving
        assert halving is not None  # without, there is one rung
        points = {
            number: losses
            for number in numbers
            if (
                losses := self.judge.losses_so_far(
                    self._trial(number), epochs, self.done.rows.get(number, ())
                )
            )
        }
        return promoted(points, halving.factor) if points else []

    def _rung(self, configs: Mapping[int, DeployConfig], epochs: int) -> None:
        requests: dict[Key, TrialRequest] = {
            (number, 0): self._request(config, "rung", epochs)
            for number, config in configs.items()
            if all(rung.epochs < epochs for rung in self._trial(number).rungs)
        }
        for (number, _), outcome in self._outcomes(f"epoch {epochs}", requests, self._again):
            trial = self._trial(number)
            if outcome.failure is not None:
                continue
            update = {"rungs": outcome.rungs, "seconds": trial.seconds + outcome.seconds}
            self._write(trial.model_copy(update=update))

    def _finish(self, configs: Mapping[int, DeployConfig]) -> None:
        """Train to the end, from every seed, and score each precision."""
        requests: dict[Key, TrialRequest] = {}
        for number, config in configs.items():
            seeds = _seeds(config, self.search.section.seeds)
            known = {result.seed for result in self._trial(number).seeds}
            for place, seed in enumerate(seeds):
                if seed not in known:
                    extra = {} if place == 0 else {"distill.seed": seed}
                    requests[number, place] = self._request(
                        self._config(self._trial(number), extra), "finish"
                    )
        for (number, place), outcome in self._outcomes("all epochs", requests, self._again):
            trial = self._trial(number)
            if outcome.result is None:
                continue
            every = sorted((*trial.seeds, outcome.result), key=lambda result: result.seed)
            trial = trial.model_copy(
                update={
                    "rungs": outcome.rungs if place == 0 else trial.rungs,
                    "seeds": tuple(every),
                    "seconds": trial.seconds + outcome.seconds,
                }
            )
            self._write(trial)
        for number, config in configs.items():
            trial = self._trial(number)
            if trial.state != "failed" and _complete(trial.seeds, _seeds(config, self.search.section.seeds)):
                self._write(trial.model_copy(update={"state": "finished"}))

    def _outcomes(
        self, step: str, requests: Mapping[Key, TrialRequest], again: Callable[[Key, Failure], bool]
    ) -> Iterator[tuple[Key, TrialOutcome]]:
        if not requests:
            return
        progress, started = self.ui.step_started(step, ""), time.monotonic()
        jobs = self.search.section.jobs
        for done, (key, outcome) in enumerate(outcomes(self.run, requests, jobs, again), 1):
            progress(done, len(requests), f"{trial_name(self.search, key[0])}{_said(outcome)}")
            for note in outcome.notes:
                self.ui.note(f"{trial_name(self.search, key[0])}: {note}")
            yield key, outcome
        self.ui.step_finished(step, _runs(len(requests)), time.monotonic() - started, self.folder)

    def _again(self, key: Key, failure: Failure) -> bool:
        """Note a failed attempt, and that it was the last one if it was; whether there is another one."""
        trial = self._trial(key[0])
        trial = trial.model_copy(update={"failures": (*trial.failures, failure.what)})
        more = not failure.final and len(trial.failures) < MOST_ATTEMPTS
        if more:
            self._write(trial)
        else:
            self._failed(trial, failure)
        return more

    def _failed(self, trial: Trial, failure: Failure) -> None:
        self._write(trial.model_copy(update={"state": "failed", "reason": failure.what, "fix": failure.fix}))
        self.ui.note(f"{trial_name(self.search, trial.number)} failed: {failure.what}")

    def _request(self, config: DeployConfig, kind: Kind, epochs: int = 0) -> TrialRequest:
        section = self.search.section
        return TrialRequest(
            config=config.model_dump_json(exclude={"scout", "search"}),
            folder=os.getcwd(),
            kind=kind,
            epochs=epochs,
            logs=str(self.store.root / "logs"),
            files_of=self.search.base.name,
            threads=threads_of(section.engine, section.jobs, section.slurm.cpus, section.ray.cpus),
        )

    def _trial(self, number: int) -> Trial:
        trial = read_trial(self.folder, number)
        assert trial is not None  # drawn before
        return trial

    def _numbers(self) -> Iterator[int]:
        number = 0
        while number < self.search.trials and read_trial(self.folder, number) is not None:
            yield number
            number += 1

    def _write(self, trial: Trial) -> None:
        write_trial(self.folder, trial)


def study_folder(search: LoadedSearch, store: Store) -> Path:
    """Where a search keeps its trials: what they come to depends on the search, the config, and nothing else."""
    said = {
        "section": search.section.model_dump(mode="json", exclude=_NOT_OF_RESULTS),
        "wave": search.wave,
        "base": search.base.model_dump(mode="json", exclude=_NOT_OF_TRIALS),
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return store.root / "searches" / f"{search.name}-{digest[:12]}"


@contextmanager
def alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """One search at a time in a folder; `wait` is called if another one is at work."""
    folder.mkdir(parents=True, exist_ok=True)
    with held(FileLock(folder / "lock"), wait):
        yield


def trial_name(search: LoadedSearch, number: int) -> str:
    """Name of a trial's deployment."""
    return name_of_trial(search.name, number)


def name_of_trial(search: str, number: int) -> str:
    """Name of the deployment of a trial of the search that is called so."""
    return f"{search}-t{number:04d}"


def forget_failures(folder: Path, numbers: Iterable[int]) -> int:
    """Let trials that failed be tried again; how many there are."""
    found = 0
    for number in numbers:
        trial = read_trial(folder, number)
        if trial is not None and trial.state == "failed":
            update = {"state": "proposed", "reason": "", "fix": "", "failures": ()}
            write_trial(folder, trial.model_copy(update=update))
            found += 1
    return found


def threads_of(engine: str, jobs: int, slurm_cpus: int, ray_cpus: float) -> int | None:
    """CPU threads of a trial; None leaves it to the libraries."""
    from pipeline.places.environment import cores

    if engine == "submitit":
        return slurm_cpus
    if engine == "ray":
        return max(1, int(ray_cpus))
    return None if jobs == 1 else max(1, cores() // jobs)


def _candidate(config: DeployConfig) -> Candidate:
    return Candidate(model=config.student.model, image_size=config.data.image_size, code=config.student.code)


def _cost_key(settings: Settings) -> str:
    """What networks have in common that are measured together."""
    apart = ("student.model", "data.image_size")
    return json.dumps(
        {k: v for k, v in settings.items() if k not in apart and not k.startswith(_COSTLESS)}, sort_keys=True
    )


def _shared_key(config: DeployConfig) -> str:
    stages = {stage.name: stage for stage in STAGES}
    return json.dumps([stages[name].arguments(config, "") for name in _SHARED], sort_keys=True, default=str)


def _seeds(config: DeployConfig, count: int) -> list[int]:
    first = config.seed if config.distill.seed is None else config.distill.seed
    return [first + place for place in range(count)]


def _complete(results: Sequence[SeedResult], seeds: Sequence[int]) -> bool:
    return {result.seed for result in results} >= set(seeds)


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count > 1)}"


def _said(outcome: TrialOutcome) -> str:
    if outcome.failure is not None:
        return f": {outcome.failure.what}"
    return f": val {outcome.rungs[-1].val_top1:.1f} %" if outcome.rungs else ""
