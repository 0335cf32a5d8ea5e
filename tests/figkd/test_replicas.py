"""Replicas in threads: the same bits as in one thread, and nothing of the caller's is left changed."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator

import pytest
import torch
from timm.layers import BatchNormAct2d as timm_norm
from torch import Tensor, nn

from figkd.errors import TrainingError
from figkd.models import ImageClassifier
from figkd.replicas import average, draws, places_of_buffers, predictor, replicate, side_by_side


@pytest.fixture(autouse=True)
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _net(*more: nn.Module) -> ImageClassifier:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        *more,
        nn.Flatten(),
        nn.Linear(512, 5),
    )
    return ImageClassifier(nn.Sequential(*layers))


class _Constant(nn.Module):
    """Holds what training does not change."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.full((3,), 0.1))

    def forward(self, input: Tensor) -> Tensor:
        return input


def _images(count: int) -> Tensor:
    return torch.randint(
        0, 256, (count, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize(("cores", "tasks", "share"), [(4, 2, 2), (2, 2, 1), (2, 4, 1), (1, 3, 1), (3, 1, 3)])
def test_tasks_divide_the_threads(cores: int, tasks: int, share: int) -> None:
    """Protects: operations of all tasks together use the threads that one had, and the caller's number comes back."""
    torch.set_num_threads(cores)
    together = threading.Barrier(min(cores, tasks))

    def task(number: int) -> tuple[int, int]:
        if number < min(cores, tasks):
            together.wait(timeout=10)
        return number, torch.get_num_threads()

    with side_by_side(tasks) as at_once:
        for _ in range(2):
            assert at_once(task, range(tasks)) == [(number, share) for number in range(tasks)]
            assert torch.get_num_threads() == cores


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_is_raised_and_others_end(failing: int) -> None:
    """Protects the message of a network that raises, in the caller's thread and beside it: it arrives as it was."""
    torch.set_num_threads(2)
    ended, begun = [], threading.Event()

    def task(number: int) -> None:
        if number == failing:
            assert begun.wait(timeout=10)
            raise ValueError("of the network")
        begun.set()
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(ValueError, match="of the network"), side_by_side(2) as at_once:
        at_once(task, range(100))
    assert ended == [1 - failing] and torch.get_num_threads() == 2


def test_the_first_part_s_failure_is_raised() -> None:
    """Protects messages: of several failures always the same one is seen, whichever comes first."""
    torch.set_num_threads(2)
    later = threading.Event()

    def task(number: int) -> None:
        if number == 0:
            assert later.wait(timeout=10)
        later.set()
        raise ValueError(f"part {number}")

    with pytest.raises(ValueError, match="part 0"), side_by_side(2) as at_once:
        at_once(task, range(2))


def test_a_thread_that_gets_no_core_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects busy machines: a thread that has not begun when the others have done everything holds up nobody."""

    class Asleep(threading.Thread):
        def start(self) -> None:
            pass

    torch.set_num_threads(2)
    monkeypatch.setattr("figkd.replicas.threading.Thread", Asleep)
    with side_by_side(2) as at_once:
        assert at_once(lambda number: -number, range(3)) == [0, -1, -2]


def test_threads_let_go_of_what_they_worked_on() -> None:
    """Protects memory: between two calls nothing of the first is kept."""
    torch.set_num_threads(2)
    together = threading.Barrier(2)

    def task(image: Tensor) -> None:
        together.wait(timeout=10)

    with side_by_side(2) as at_once:
        images = [torch.zeros(1), torch.zeros(1)]
        seen = [weakref.ref(image) for image in images]
        at_once(task, images)
        del images
        until = time.monotonic() + 10
        while any(image() is not None for image in seen) and time.monotonic() < until:
            time.sleep(0.01)
        assert [image() for image in seen] == [None, None]


def test_replicas_share_what_they_shall() -> None:
    """Protects training: one set of parameters, batch statistics of each replica's own."""
    net = _net()
    first, second = replicate(net, 2, buffers=True)
    assert first is net and all(map(lambda a, b: a is b, net.parameters(), second.parameters()))
    assert not any(map(lambda a, b: a is b, net.buffers(), second.buffers()))
    _, third = replicate(net, 2, buffers=False)
    assert all(map(lambda a, b: a is b, net.buffers(), third.buffers()))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_buffers_are_averaged(count: int) -> None:
    """Protects evaluation: the mean of the statistics; what no replica changed keeps its bits (0.1 + 0.1 + 0.1)."""
    replicas = replicate(_net(_Constant()), count, buffers=True)
    norms = [net.get_submodule("backbone.1") for net in replicas]
    for number, norm in enumerate(norms):
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
        norm.running_mean.fill_(number)
        norm.num_batches_tracked = torch.tensor(5 if number == 0 else 9)
    average([[*statistics, *others] for statistics, others in map(places_of_buffers, replicas)])
    for norm in norms:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
        torch.testing.assert_close(norm.running_mean, torch.full((8,), (count - 1) / 2))
        assert norm.num_batches_tracked == 5
    kept = [replica.get_buffer("backbone.3.value") for replica in replicas]
    assert all(torch.equal(value, torch.full((3,), 0.1)) for value in kept)


class _Reading(nn.BatchNorm2d):
    """Its running statistics are part of what training computes."""

    def forward(self, input: Tensor) -> Tensor:
        assert self.running_mean is not None
        return super().forward(input) + self.running_mean[:, None, None]


@pytest.mark.parametrize(
    ("norm", "waits"),
    [(nn.BatchNorm2d(8), True), (timm_norm(8), True), (_Reading(8), False), (nn.LayerNorm(8), False)],
)
def test_only_statistics_that_training_does_not_read_may_wait(norm: nn.Module, waits: bool) -> None:
    """Protects training: other buffers are averaged at each step."""
    norm.register_buffer("none", None)
    statistics, others = places_of_buffers(nn.Sequential(norm))
    found = {name for _, name in statistics}
    assert found == ({"running_mean", "running_var", "num_batches_tracked"} if waits else set())
    assert {name for _, name in others} == {name for name, _ in norm.named_buffers()} - found


def test_buffers_that_code_replaces_are_averaged() -> None:
    """Protects networks that put a new tensor in the place of a buffer in each forward pass."""
    replicas = replicate(_net(_Constant()), 2, buffers=True)
    places = [others for _, others in map(places_of_buffers, replicas)]
    for number, replica in enumerate(replicas):
        replica.get_submodule("backbone.3").value = torch.full((3,), float(number))  # type: ignore[assignment]
    average(places)
    found = [replica.get_buffer("backbone.3.value") for replica in replicas]
    assert all(torch.equal(value, torch.full((3,), 0.5)) for value in found)
    average([[], []])


def test_random_networks_are_found() -> None:
    """Protects equal bits: replicas with dropout take their numbers from one generator, so they take turns."""
    net, random = _net(), _net(nn.Dropout(0.1))
    before, state = [tensor.clone() for tensor in net.state_dict().values()], torch.get_rng_state()
    assert not draws(net, 8) and draws(random, 8)
    assert all(map(torch.equal, before, net.state_dict().values()))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_predictions_have_the_same_bits_on_any_number_of_threads(amp: str) -> None:
    """Protects the logit cache and validation: only `images` decides, and it is what the network says."""
    net, images = _net().eval(), _images(75)
    found = []
    for cores in (1, 2, 3):
        torch.set_num_threads(cores)
        with predictor(net, "cpu", amp) as logits:
            found.append(logits(images))
        assert torch.get_num_threads() == cores
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert not found[0].requires_grad and found[0].dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(found[0], net(images), atol=0.05 if amp == "bf16" else 1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_network_that_cannot_be_copied_predicts_alone() -> None:
    """Protects teachers with weights that hooks compute: they work as before, and replicas of them are refused."""
    torch.set_num_threads(2)
    net, images = _net(), _images(75)
    nn.utils.weight_norm(net.get_submodule("backbone.0"))
    net(images)  # its weight is now the result of an operation
    with pytest.raises(TrainingError, match=r"cannot be copied: .*deepcopy") as caught:
        replicate(net, 2, buffers=True)
    assert caught.value.fix == "set replicas: 1"
    with predictor(net.eval(), "cpu") as logits, torch.no_grad():
        torch.testing.assert_close(logits(images), net(images), atol=1e-5, rtol=1e-4)
