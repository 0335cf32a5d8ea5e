"""A search with pretended training: waves, halving, failures, and that it can be cut off at any instant.

What is protected: the same trials, promotions and front however often a search was killed; a failing trial is a row,
tried twice; a dying worker takes no other trial along; nothing that misses a budget untrained is trained.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import DeviceFault, EnvironmentFault
from pipeline.results.rows.trials import Trial, read_trial, trial_path
from pipeline.search import study as study_module
from pipeline.search.goes_on import trials_in
from pipeline.search.outcome import assemble, points_with_front
from pipeline.search.runners import WorkerDied
from pipeline.search.study import study_folder
from pipeline.search.trial import TrialOutcome, TrialRequest
from tests.pipeline.search.pretend import (
    BASE,
    SEARCH,
    failing,
    front_of,
    pretend,
    scouted,
    searched,
    study,
    told,
)
from tests.pipeline.search.test_propose import HAS_OPTUNA

SAMPLERS = ["random", *(["tpe", "nsga2"] if HAS_OPTUNA else [])]


class _Killed(BaseException):
    """As if by SIGKILL: nobody catches it."""


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("run", [pretend, failing])
def test_cut_off_anywhere_it_ends_with_the_same_front(
    sampler: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off at random writes of trial files, before or after them, over and over."""
    sets = [f"search.sampler={sampler}", "search.trials=8", "search.wave=4"]
    whole = study(searched(tmp_path, SEARCH, *sets), run)
    trials = whole.carry_out().trials
    expected = told(front_of(whole))
    generator = random.Random(sampler)
    write = study_module.write_trial
    left = 0

    def fragile(folder: Path, trial: Trial) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise _Killed
        write(folder, trial)
        if left < 0 and generator.random() < 0.02:
            raise _Killed

    monkeypatch.setattr(study_module, "write_trial", fragile)
    for _ in range(2):
        other = tmp_path / f"{generator.random()}"
        other.mkdir()
        cuts = 0
        while True:
            left = generator.randrange(1, 12) if cuts < 6 else 0
            again = study(searched(other, SEARCH, *sets), run)
            try:
                done = again.carry_out().trials
            except _Killed:
                cuts += 1
                continue
            break
        assert cuts >= 3
        assert [t.model_dump() for t in done] == [t.model_dump() for t in trials]
        assert told(front_of(again)) == expected


def test_halving_promotes_the_best_and_says_what_it_saved(tmp_path: Path) -> None:
    """8 trials for 1 epoch, 4 for 2, 2 for 4, in each of two waves: 32 epochs instead of 64."""
    work = study(searched(tmp_path))
    trials = work.carry_out().trials
    assert [len([t for t in trials if t.epochs == epochs]) for epochs in (1, 2, 4)] == [8, 4, 4]
    assert {t.state for t in trials if t.epochs < 4} == {"paused"}
    points = points_with_front(work.done, work.judge)
    result = assemble(work.search, work.done, points, {})
    assert (result.effort.epochs, result.effort.epochs_of_everything) == (8 + 8 + 16, 64)
    front = result.front
    assert [p.front for p in front] == list(range(1, len(front) + 1)) and front
    top1 = [p.values["val_top1"].value for p in front]
    assert top1 == sorted(top1, reverse=True)
    assert all(p.values["val_top1"].low is not None for p in front)


def test_what_misses_a_budget_untrained_is_not_trained(tmp_path: Path) -> None:
    """A row with the reason; the front holds what meets the budgets alone."""
    asked: list[TrialRequest] = []

    def run(request: TrialRequest) -> TrialOutcome:
        asked.append(request)
        return pretend(request)

    base = BASE + "budgets: {latency_p50_ms: {max: 0.6}}\n"
    work = study(searched(tmp_path, base=base), run)
    trials = work.carry_out().trials
    excluded = [t for t in trials if t.state == "excluded"]
    assert excluded and all("latency_p50_ms" in t.reason and "max 0.6" in t.reason for t in excluded)
    assert all(f"-t{t.number:04d}" not in request.config for t in excluded for request in asked)
    assert all(p.values["latency_p50_ms@cpu"].value <= 0.62 for p in front_of(work)) and front_of(work)


def test_accuracy_budgets_are_held_against_validation(tmp_path: Path) -> None:
    """INT8 loses a point: a budget of half a point keeps it off the front, with the reason."""
    work = study(searched(tmp_path, base=BASE + "budgets: {top1: {max_drop: 0.5}}\n"))
    work.carry_out()
    points = points_with_front(work.done, work.judge)
    int8 = [p for p in points if p.precision == "int8"]
    assert int8 and all(p.misses[0].side == "max_drop" and p.front is None for p in int8)
    assert any(p.front for p in points)


@pytest.mark.parametrize("final", [False, True])
def test_a_trial_that_fails_for_ever_is_tried_twice(final: bool, tmp_path: Path) -> None:
    """Once if it is by its own settings. Also over several runs; `forget_failures` is how it is tried again."""
    tries: dict[str, int] = {}

    def run(request: TrialRequest) -> TrialOutcome:
        outcome = failing(request)
        if outcome.failure is None:
            return outcome
        tries[request.config] = tries.get(request.config, 0) + 1
        return replace(outcome, failure=replace(outcome.failure, final=final))

    search = searched(tmp_path)
    trials = study(search, run).carry_out().trials
    study(search, run).carry_out()
    failed = [t for t in trials if t.state == "failed"]
    assert failed and set(tries.values()) == {1 if final else 2} and len(tries) == len(failed)
    work = study(search, run)
    effort = assemble(search, work.carry_out(), [], {}).effort
    assert effort.epochs_of_everything == 4 * (16 - len(failed)) + sum(t.epochs for t in failed)
    assert all(
        t.reason == "the loss is nan in epoch 1" and t.fix == "lower the learning rate" for t in failed
    )
    folder = study_folder(search, study(search).store) / "trials"
    assert study_module.forget_failures(folder, range(16)) == len(failed)
    assert all(t.state != "failed" for t in study(search).carry_out().trials)


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_worker_that_dies_takes_nothing_along(jobs: int, tmp_path: Path) -> None:
    """Each trial's first worker dies; the second attempt counts, and the front is the same."""
    seen: set[str] = set()

    def run(request: TrialRequest) -> TrialOutcome:
        key = f"{request.kind} {request.epochs} {request.config}"
        if request.kind == "rung" and request.epochs == 1 and key not in seen:
            seen.add(key)
            raise WorkerDied("the worker was killed by signal 9")
        return pretend(request)

    work = study(searched(tmp_path, SEARCH, f"search.jobs={jobs}"), run)
    trials = work.carry_out().trials
    assert all(t.failures == ("the worker was killed by signal 9",) for t in trials)
    (tmp_path / "b").mkdir()
    quiet = study(searched(tmp_path / "b"))
    quiet.carry_out()
    assert told(front_of(work)) == told(front_of(quiet))


def test_seeds_give_a_mean_and_its_interval(tmp_path: Path) -> None:
    """The last rung trains from each seed; the interval is of the seeds."""
    work = study(searched(tmp_path, SEARCH, "search.seeds=3"))
    trials = work.carry_out().trials
    finished = [t for t in trials if t.state == "finished"]
    assert all([s.seed for s in t.seeds] == [0, 1, 2] and t.epochs == 12 for t in finished)
    point = front_of(work)[0]
    each = [
        s.files[f"{point.precision}.onnx"].top1 for t in finished if t.number == point.trial for s in t.seeds
    ]
    found = point.values["val_top1"]
    assert found.value == pytest.approx(sum(each) / 3) and found.low is not None and found.low < found.value


def test_an_objective_on_a_target_that_cannot_run(tmp_path: Path) -> None:
    """Nothing is trained; exit code 4 here, 5 on a device, with what the scouting said."""

    def nothing(config: Any, candidates: Any) -> Any:
        update = {"state": "missing", "p50_ms": None, "p50_interval": None, "n": 0}
        update |= {"reason": "no GPU", "fix": "run it on the board"}
        return [row.model_copy(update=update) for row in scouted(config, candidates)]

    for base, kind in (
        (BASE, EnvironmentFault),
        (BASE.replace("onnxruntime,", "onnxruntime, device: ssh://a,"), DeviceFault),
    ):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        with pytest.raises(kind) as caught:
            study(searched(folder, base=base), pretend, nothing).carry_out()
        assert "nothing can be timed on target 'cpu': no GPU" in str(caught.value)
        assert caught.value.fix == "run it on the board"


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"trial_version": 2}', "null", '{"number": 1, "settings": {}}']
)
def test_a_damaged_trial_is_told(content: str, tmp_path: Path) -> None:
    """Strict reading: exit code 4, with the file and what to do."""
    trial_path(tmp_path, 0).write_text(content)
    with pytest.raises(EnvironmentFault) as caught:
        read_trial(tmp_path, 0)
    assert "is no trial of a search" in caught.value.what and "remove the file" in caught.value.fix
    assert read_trial(tmp_path, 1) is None


def test_settings_that_contradict_each_other_are_a_row(tmp_path: Path) -> None:
    """Each value is fine alone: the trial says what is wrong, the search goes on."""
    text = SEARCH.replace(
        "data.image_size: [24, 32, 40]", "data.image_size: [24, 32, 40]\n  data.store_size: [32, 64]"
    )
    trials = study(searched(tmp_path, text)).carry_out().trials
    failed = [t for t in trials if t.state == "failed"]
    assert failed and all("store_size" in t.reason and not t.failures for t in failed)
    assert any(t.state == "finished" for t in trials)


def test_a_search_says_which_trials_it_goes_on_with(tmp_path: Path) -> None:
    """Those that are neither paused nor at their end; of two searches of a name, one that goes on is enough."""
    work = study(searched(tmp_path))
    trials = work.carry_out().trials
    name = work.search.name
    assert set(trials_in(work.store)) == {f"{name}-t{t.number:04d}" for t in trials}
    assert not any(trials_in(work.store).values())
    other = study(searched(tmp_path, SEARCH, "search.seed=7"))
    other._write(Trial(number=3, settings={}))
    trial_path(other.folder, 4).write_text("{")
    assert sorted(config for config, on in trials_in(work.store).items() if on) == [
        f"{name}-t0003",
        f"{name}-t0004",
    ]
