"""Protects how many threads train beside other processes: those that have cores to themselves, if that is faster."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from figkd import free_cores
from figkd.data.split import Split
from figkd.data.views import make_views
from figkd.errors import TrainingError, TrainingPaused
from figkd.free_cores import TURN_S, TURNS, WARM_S, others, shares, threads_by_load
from figkd.loss.build import build_loss
from figkd.models import ImageClassifier
from figkd.train import train

LINUX = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system places no threads")


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([], 0), ([1, 1], 0), ([0.5, 1], 1), ([0.5, 0.5], 2), ([1.02, 0.25], 3), ([0.0], 99)],
)
def test_processes_by_what_they_leave(shares: list[float], expected: float) -> None:
    """A thread that has half of its core shares it with one."""
    assert others(shares) == pytest.approx(expected)


@LINUX
def test_a_process_on_a_core_is_seen() -> None:
    """Protects the measurement: a real process, kept to one core; others may be at work too."""
    core = min(os.sched_getaffinity(0))
    hog = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"]
    )
    try:
        while os.sched_getaffinity(hog.pid) != {core}:
            assert hog.poll() is None
        (found,) = shares([core])
    finally:
        hog.kill()
        hog.wait()
    assert found < 0.75
    assert os.sched_getaffinity(0) != {core} or len(os.sched_getaffinity(0)) == 1


class _Machine:
    """Steps whose seconds by number of threads are given, on a clock that they move."""

    def __init__(self, seconds: dict[int, float], shares: list[float], patch: pytest.MonkeyPatch) -> None:
        self._seconds, self.now, self.turns = seconds, 0.0, list[int]()
        patch.setattr(free_cores, "time", SimpleNamespace(perf_counter=lambda: self.now))
        patch.setattr(free_cores, "shares", lambda _: shares)
        patch.setattr(os, "sched_getaffinity", lambda _: set(range(len(shares))))
        torch.set_num_threads(len(shares))

    @contextlib.contextmanager
    def trial(self) -> Iterator[Callable[[], object]]:
        self.turns.append(torch.get_num_threads())
        yield self.step

    def step(self) -> None:
        self.now += self._seconds[torch.get_num_threads()]


@LINUX
@pytest.mark.parametrize(
    ("shares", "seconds", "expected"),
    [
        ([0.97, 0.9], {}, 2),  # nobody else: nothing is tried
        ([1.0, 0.5], {1: 0.02, 2: 0.03}, 1),
        ([1.0, 0.5], {1: 0.02, 2: 0.021}, 2),  # all threads are faster again when the other has gone
        ([1.0, 0.5], {1: 70.0, 2: 50.0}, 2),
        ([0.5, 0.3], {1: 0.02, 2: 0.03}, 1),
        ([1.0] * 7 + [0.5], {7: 0.02, 8: 0.03}, 7),
        ([0.2] * 8, {1: 0.02, 8: 0.01}, 8),
    ],
)
def test_the_faster_number_is_taken(
    shares: list[float], seconds: dict[int, float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are free cores, or all; they take turns."""
    machine = _Machine(seconds, shares, monkeypatch)
    assert threads_by_load(machine.trial) == expected
    assert machine.turns == [*seconds] * TURNS
    assert machine.now <= TURNS * len(seconds) * (WARM_S + TURN_S + 2 * max(seconds.values(), default=0))
    assert torch.get_num_threads() == len(shares)


@LINUX
def test_a_load_that_ends_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects long trainings from a burst at their start: both numbers are tried before and after."""
    machine = _Machine({}, [1.0, 0.5], monkeypatch)
    busy, idle = {1: 0.02, 2: 0.03}, {1: 0.02, 2: 0.01}
    machine.step = lambda: setattr(  # type: ignore[method-assign]
        machine, "now", machine.now + (busy if machine.now < 1.5 else idle)[torch.get_num_threads()]
    )
    assert threads_by_load(machine.trial) == 2


@LINUX
def test_a_trial_that_fails_leaves_it_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says what is wrong."""
    machine = _Machine({}, [1.0, 0.5], monkeypatch)
    assert threads_by_load(machine.trial) == 2 and machine.turns == [1]
    assert torch.get_num_threads() == 2


def _never() -> Any:
    pytest.fail("tried")


def test_the_users_number_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at where the environment says how many threads there are."""
    monkeypatch.setattr(free_cores, "shares", lambda _: pytest.fail("looked"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_by_load(_never) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_by_load(_never, fewest=2) == 2
    torch.set_num_threads(1)
    assert threads_by_load(_never) == 1


class _Counting(nn.Module):
    """Cross entropy that knows how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self._loss = build_loss("ce", 4)

    def forward(self, *given: Any) -> Any:
        self.calls += 1
        return self._loss(*given)


def _train(*, loss: Any = None, dropout: float = 0, **options: Any) -> tuple[nn.Module, list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    split = Split(images, np.arange(64, dtype=np.int64) % 4, [str(index) for index in range(64)])
    torch.manual_seed(0)
    model = ImageClassifier(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(1024, 4),
        )
    )
    history = train(
        model, split, loss=loss or build_loss("ce", 4), views=make_views("none", image_size=8, store_size=8), epochs=3,
        batch_size=32, lr=0.01, **options,
    )  # fmt: skip
    return model, history


def _threads(history: list[dict[str, Any]]) -> list[int]:
    return [record["timing"]["threads"] for record in history]


def test_the_number_is_chosen_once_recorded_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects exact resume: the machine was busy when the training began, and idle when it went on."""
    numbers = iter([1, 1])
    monkeypatch.setattr("figkd.train.threads_by_load", lambda *_: next(numbers))
    notes: list[str] = []
    whole, history = _train(threads="auto", progress=lambda done, total, note: notes.append(note))
    assert _threads(history) == [1, 1, 1]
    assert any(note.startswith("epoch 3/3: loss") and note.endswith(", 1 of 2 threads") for note in notes)
    state = tmp_path / "state.pt"
    with pytest.raises(TrainingPaused):
        _train(threads="auto", state_path=state, pause_after=1)
    resumed, history = _train(threads="auto", state_path=state)
    assert _threads(history) == [1, 1, 1] and not list(numbers)
    assert all(map(torch.equal, resumed.state_dict().values(), whole.state_dict().values()))
    assert torch.get_num_threads() == 2


def test_fewer_cores_than_a_training_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with those that there are."""
    monkeypatch.setattr("figkd.train.threads_by_load", lambda *_: 2)
    with pytest.raises(TrainingPaused):
        _train(threads="auto", state_path=tmp_path / "state.pt", pause_after=1)
    torch.set_num_threads(1)
    _, history = _train(threads="auto", state_path=tmp_path / "state.pt")
    assert _threads(history) == [2, 1, 1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 2),
        ({"threads": "all"}, 2),
        ({"threads": 1}, 1),
        ({"threads": 3}, 3),
        ({"threads": "auto", "replicas": 2}, 2),
    ],
)
def test_nothing_is_tried_where_the_number_is_known(
    options: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many replicas as threads have the same bits on fewer, and lose little beside others."""
    monkeypatch.setattr(free_cores, "shares", lambda _: pytest.fail("looked"))
    _, history = _train(**options)
    assert _threads(history) == [expected] * 3


@LINUX
@pytest.mark.parametrize(
    "options", [{}, {"replicas": 2}, {"ema_decay": 0.9, "accumulate": 2, "dropout": 0.5}]
)
def test_a_trial_leaves_no_trace(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the bits: real steps are tried in between, with batch norm, dropout and a loss that counts its calls."""
    torch.set_num_threads(3)
    monkeypatch.setattr(free_cores, "WARM_S", 0)
    monkeypatch.setattr(free_cores, "TURN_S", 0)
    monkeypatch.setattr(free_cores, "shares", lambda _: [1.0, 1.0, 0.5])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    loss = _Counting()
    tried, history = _train(threads="auto", loss=loss, **options)
    (count, *_) = _threads(history)
    assert count in (2, 3)
    other = _Counting()
    plain, untried = _train(threads=count, loss=other, **options)
    assert loss.calls == other.calls > 0
    assert [record["loss"] for record in history] == [record["loss"] for record in untried]
    assert all(map(torch.equal, tried.state_dict().values(), plain.state_dict().values()))


@pytest.mark.parametrize("threads", [0, -1, "some", 1.5])
def test_a_wrong_number_is_named(threads: Any) -> None:
    """With what may be given."""
    with pytest.raises(TrainingError, match=rf"{threads!r} threads.*at least 1, \"auto\" or \"all\""):
        _train(threads=threads)
