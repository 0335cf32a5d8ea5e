"""Protects how many threads train beside other processes: those that have cores to themselves, if that is faster."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import figkd.train as train_module
from figkd import free_cores
from figkd.data.split import Split
from figkd.data.views import make_views
from figkd.errors import TrainingError, TrainingPaused
from figkd.free_cores import TURNS, cores_wanted, shares, threads_by_load
from figkd.loss.build import build_loss
from figkd.models import ImageClassifier, build_model
from figkd.train import train
from figkd.trial import leaves_no_trace, step_of_a_copy

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
    [
        ([], 0),
        ([1, 1], 0),
        ([0.5, 1], 1),
        ([0.5, 0.5], 2),
        ([0.75, 0.75], 2 / 3),
        ([1.0, 0.25], 1),  # three on one core
        ([0.03, 1.0, 1.0], 1),  # one that goes before us
        ([0.0], 1),
        ([0.95] * 64, 0),
    ],
)
def test_cores_by_what_others_leave(shares: list[float], expected: float) -> None:
    """A thread that has half of its core shares it with one."""
    assert cores_wanted(shares) == pytest.approx(expected)


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


def _system(cores: set[int]) -> Any:
    """The part of `os` that is asked, with these cores."""
    return SimpleNamespace(
        environ=os.environ, sched_getaffinity=lambda _: cores, sched_setaffinity=os.sched_setaffinity
    )


class _Machine:
    """Steps whose seconds by number of threads are given, on a clock that they move."""

    def __init__(self, seconds: dict[int, float], shares: list[float], patch: pytest.MonkeyPatch) -> None:
        self._seconds, self.now, self.turns, self.steps = seconds, 0.0, list[int](), 0
        patch.setattr(free_cores, "time", SimpleNamespace(perf_counter=lambda: self.now))
        patch.setattr(free_cores, "shares", lambda _: shares)
        cores = set(range(len(shares)))
        patch.setattr(free_cores, "os", _system(cores))
        torch.set_num_threads(len(shares))

    @contextlib.contextmanager
    def trial(self) -> Iterator[Callable[[], object]]:
        self.turns.append(torch.get_num_threads())
        yield self.step

    def step(self) -> None:
        self.steps += 1
        self.now += self._seconds[torch.get_num_threads()]


@LINUX
@pytest.mark.parametrize(
    ("shares", "seconds", "expected"),
    [
        ([0.97, 0.9], {}, 2),  # nobody else: nothing is tried
        ([1.0, 0.5], {1: 0.02, 2: 0.03}, 1),
        ([1.0, 0.5], {1: 0.02, 2: 0.021}, 2),  # all threads are faster again when the other has gone
        ([1.0, 0.5], {1: 70.0, 2: 50.0}, 2),
        ([1.0, 0.5], {1: 0.9, 2: 0.7}, 2),
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
    assert machine.now <= 8 or machine.steps == 4
    assert machine.now <= 3.2 or machine.steps <= 8
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


@LINUX
def test_nothing_of_a_turn_is_left_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory: one copy of the network at a time."""
    machine = _Machine({1: 0.02, 2: 0.03}, [1.0, 0.5], monkeypatch)
    copies: list[weakref.ref[Any]] = []

    @contextlib.contextmanager
    def trial() -> Iterator[Callable[[], object]]:
        assert not any(copy() for copy in copies)
        network = nn.Linear(1, 1)
        copies.append(weakref.ref(network))

        def step(network: nn.Module = network) -> None:
            machine.step()

        del network
        yield step

    assert threads_by_load(trial) == 1 and len(copies) == 2 * TURNS


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


def _train(
    *, loss: Any = None, dropout: float = 0, layer: nn.Module | None = None, **options: Any
) -> tuple[nn.Module, list[dict[str, Any]]]:
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
            layer or nn.Identity(),
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


def test_cores_that_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with those that there are, and never with more than it began with."""
    monkeypatch.setattr("figkd.train.threads_by_load", lambda *_: 2)
    state = tmp_path / "state.pt"
    for threads, epoch in ((2, 1), (1, 2)):
        torch.set_num_threads(threads)
        with pytest.raises(TrainingPaused):
            _train(threads="auto", state_path=state, pause_after=epoch)
    torch.set_num_threads(3)
    _, history = _train(threads="auto", state_path=state)
    assert _threads(history) == [2, 1, 2]


@pytest.mark.parametrize(
    ("began_with", "replicas", "expected"),
    [(2, 1, 2), (8, 1, 4), (1, 2, 2), (1, 8, 4), (None, 1, 4), ("absent", 1, 4)],
)
def test_the_number_of_a_resumed_training(began_with: Any, replicas: int, expected: int) -> None:
    """All where none was chosen (on a GPU, in several processes, in a state of before); replicas have a thread each."""
    torch.set_num_threads(4)
    timing = {} if began_with == "absent" else {"threads": began_with}
    history = [{"timing": timing}, {"timing": {"threads": 3}}]
    assert train_module._threads("auto", history, replicas, _never) == expected


def test_several_processes_try_nothing() -> None:
    """One that did would leave the others waiting."""
    assert train_module._threads("auto", [], 1, None) == 2


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


class _Own(nn.Module):
    """A layer of the user's own."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def _hooked() -> nn.Module:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda *_: None)
    return layer


def _patched() -> nn.Module:
    layer = nn.ReLU()
    layer.forward = lambda images: images  # type: ignore[method-assign]
    return layer


def _parametrised() -> nn.Module:
    layer = nn.Linear(2, 2)
    nn.utils.parametrize.register_parametrization(layer, "weight", _Own())
    return layer


@pytest.mark.parametrize("make", [_Own, _hooked, _patched, _parametrised])
def test_code_of_others_is_not_tried(make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what it counts, draws or keeps: in the network and in its teacher."""
    monkeypatch.setattr("figkd.train.threads_by_load", lambda *_: pytest.fail("tried"))
    assert not leaves_no_trace(nn.Sequential(nn.ReLU(), make()))
    if make is not _parametrised:  # a layer that fits the images
        _, history = _train(threads="auto", layer=make())
        assert _threads(history) == [2, 2, 2]
        _train(
            threads="auto",
            teacher=ImageClassifier(nn.Sequential(make(), nn.Flatten(), nn.Linear(192, 4))),
        )


@pytest.mark.parametrize("name", ["figkd/resnet_tiny", "timm/mobilenetv4_conv_small", "torchvision/resnet18"])
def test_networks_by_name_are_tried(name: str) -> None:
    """What is known to leave no trace."""
    assert leaves_no_trace(build_model(name, 4, image_size=32))


@LINUX
@pytest.mark.parametrize(
    "options", [{}, {"replicas": 2}, {"ema_decay": 0.9, "accumulate": 2, "dropout": 0.5, "mixup": 0.2}]
)
def test_a_trial_leaves_no_trace(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the bits: real passes are tried, forward and backward, with batch norm, dropout and an own loss."""
    torch.set_num_threads(3)
    monkeypatch.setattr(free_cores, "WARM_S", 0)
    monkeypatch.setattr(free_cores, "TURN_S", 0)
    monkeypatch.setattr(free_cores, "shares", lambda _: [1.0, 1.0, 0.5])
    monkeypatch.setattr(free_cores, "os", _system({0, 1, 2}))
    turns: list[tuple[int, bool]] = []

    @contextlib.contextmanager
    def watched(make: Any, model: nn.Module, feed: Any) -> Iterator[Callable[[], object]]:
        copies: list[nn.Module] = []

        def making(network: nn.Module, loss: Any) -> Any:
            copies.append(network)
            return make(network, loss)

        with step_of_a_copy(making, model, feed) as step:
            yield step
        (copy,) = copies
        assert copy is not model
        learns = all(parameter.grad is not None for parameter in copy.parameters())
        turns.append((torch.get_num_threads(), learns))

    monkeypatch.setattr("figkd.train.step_of_a_copy", watched)
    loss, other = _Counting(), _Counting()
    steps: list[int] = []
    tried, history = _train(
        threads="auto", loss=loss, progress=lambda done, *_: steps.append(done), **options
    )
    assert 0 not in steps and steps == sorted(steps)
    assert turns == [(2, True), (3, True)] * TURNS
    (count, *_) = _threads(history)
    assert count in (2, 3)
    plain, untried = _train(threads=count, loss=other, **options)
    assert loss.calls == other.calls > 0
    assert [record["loss"] for record in history] == [record["loss"] for record in untried]
    assert all(map(torch.equal, tried.state_dict().values(), plain.state_dict().values()))


@pytest.mark.parametrize("threads", [0, -1, "some", 1.5, True, 1_025, np.int64(2)])
def test_a_wrong_number_is_named(threads: Any) -> None:
    """With what may be given; torch would take a bool or memory for a million of threads, or fail."""
    with pytest.raises(TrainingError) as caught:
        _train(threads=threads)
    assert caught.value.what == f"threads: {threads!r}"
    assert caught.value.fix == 'an int from 1 to 1,024, "auto" or "all" is needed'
