"""Replicas of a network that work side by side in the threads of a CPU, each on its own images.

The operations of a small network are too short to be shared by threads: these would wait for each other hundreds of
times a step, and a core that another process takes would hold up every operation. Replicas wait two or three times.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, cast

import torch
from torch import Tensor, nn

from figkd.errors import TrainingError
from figkd.heap import freed_memory_kept
from figkd.models import ImageClassifier
from figkd.objective import autocast

_PIECE = 32
"""Images that a replica predicts at a time: of fixed size, so that the number of threads changes no bits."""
_PREDICTING = 4
"""Most replicas that predict; with as many pieces in work, memory does not grow with the number of cores."""
_NORMS = ("torch.nn.modules.batchnorm", "timm.layers.norm_act")
"""Modules whose batch norms only write their running statistics in training."""

AtOnce = Callable[..., list[Any]]
"""As `map`: a function, and its arguments in sequences of equal length."""

Place = tuple[nn.Module, str]
"""A module and the name of a buffer of its own, in whose place code may put another tensor."""


def in_turn(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """A `map` that gives a list."""
    return list(map(function, *arguments))


@contextlib.contextmanager
def side_by_side(tasks: int) -> Iterator[AtOnce]:
    """A `map` over `tasks` threads, or fewer where torch has fewer, among which torch's threads are divided.

    The caller's thread is one of them. Results come in the order of the arguments. After a failure nothing more begins;
    when what had begun has come to an end, the one of the first arguments is raised.
    """
    cores = torch.get_num_threads()
    count = min(tasks, cores)
    if count < 2:
        yield in_turn
        return
    # Not a pool of executors: its futures take twice as long to start and to end, which a small step feels.
    asked: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def help_out() -> None:
        for work in iter(asked.get, None):
            work()
            del work  # or it would keep its tensors until the next one

    def at_once(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        given = list(zip(*arguments, strict=True))
        found: list[Any] = [None] * len(given)
        failures: dict[int, BaseException] = {}
        places = iter(range(len(given)))
        ended: SimpleQueue[int] = SimpleQueue()

        def work() -> None:
            done = 0
            for place in places:  # each thread takes what the others have left
                done += 1
                try:
                    found[place] = function(*given[place])
                except BaseException as error:
                    failures[place] = error
                    done += len(list(places))  # leaves nothing to the others
            ended.put(done)

        with threads(cores // count):  # helpers take this over at their first operation
            for _ in range(min(count, len(given)) - 1):
                asked.put(work)
            work()
            # Where other processes have the cores, a helper that has not woken yet is not waited for.
            left = len(given)
            while left:
                left -= ended.get()
        if failures:
            raise failures[min(failures)]
        return found

    helpers = [threading.Thread(target=help_out, daemon=True) for _ in range(count - 1)]
    try:
        for helper in helpers:
            helper.start()
        yield at_once
    finally:
        started = [helper for helper in helpers if helper.is_alive()]
        for _ in started:
            asked.put(None)
        for helper in started:
            helper.join()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch's operations use `count` threads in this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def replicate(model: nn.Module, count: int, *, buffers: bool) -> list[nn.Module]:
    """The network and copies of it: the same parameters, the same device.

    Args:
        model: the first of the returned.
        count: how many.
        buffers: whether each copy has buffers of its own (batch norm changes them in training).

    Raises:
        TrainingError: it cannot be copied (a weight that hooks compute, a lock, an open file).
    """
    shared = [*model.parameters()] + ([] if buffers else [*model.buffers()])
    try:
        copies = [copy.deepcopy(model, {id(tensor): tensor for tensor in shared}) for _ in range(count - 1)]
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise TrainingError(f"the network cannot be copied: {reason}", "set replicas: 1") from error
    return [model, *copies]


def places_of_buffers(model: nn.Module) -> tuple[list[Place], list[Place]]:
    """The running statistics of batch norms, and all other buffers.

    Training does not read running statistics, and their mean over replicas is linear in them: it may be taken after
    any number of steps. Nothing writes the buffers of our own module, which are left out.
    """
    statistics: list[Place] = []
    others: list[Place] = []
    for module in model.modules():
        if type(module) is ImageClassifier:
            continue
        # A subclass may read them.
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module).__module__ in _NORMS
        found = [(module, name) for name, buffer in module._buffers.items() if buffer is not None]
        (statistics if norm else others).extend(found)
    return statistics, others


def average(replicas: Sequence[Sequence[Place]]) -> None:
    """Give all replicas the mean of their floating-point buffers, and the first one's other buffers."""
    if not replicas[0]:
        return
    with torch.no_grad():
        first, *others = [[module.get_buffer(name) for module, name in places] for places in replicas]
        means = _floats(first)
        if means:
            # Not the sum over the count, which rounds where all are equal.
            sums, *more = [torch._foreach_sub(_floats(other), means) for other in others]
            for differences in more:
                torch._foreach_add_(sums, differences)
            torch._foreach_add_(means, sums, alpha=1 / len(replicas))
        for other in others:
            torch._foreach_copy_(other, first)


def _floats(buffers: Sequence[Tensor]) -> list[Tensor]:
    return [buffer for buffer in buffers if buffer.is_floating_point()]


def draws(model: nn.Module, image_size: int) -> bool:
    """Whether a training network takes random numbers (dropout, stochastic depth) from torch's generator.

    All threads share this generator, so such replicas would not repeat their results side by side.
    """
    probe = copy.deepcopy(model).train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        probe(torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8))
        return not torch.equal(before, torch.get_rng_state())


@contextlib.contextmanager
def predictor(model: nn.Module, device: str, amp: str = "none") -> Iterator[Callable[[Tensor], Tensor]]:
    """The network as a function without gradients: uint8 [B, H, W, 3] on `device` to float32 logits [B, C].

    On a CPU replicas of the network share the images of a call, unless it cannot be copied: how many changes no bits.

    Args:
        model: in eval mode, on `device`.
        device: "cpu" or "cuda".
        amp: "bf16" runs it under autocast.
    """
    inference = torch.is_inference_mode_enabled()

    def run(network: nn.Module, images: Tensor) -> Tensor:
        with torch.inference_mode(inference), torch.no_grad(), autocast(device, amp):
            return cast(Tensor, network(images)).float()

    if torch.device(device).type != "cpu":
        yield lambda images: run(model, images)
        return
    idle = _copies(model)[::-1]  # the network itself is taken first
    with freed_memory_kept(), side_by_side(len(idle)) as at_once:

        def piece(images: Tensor) -> Tensor:
            network = idle.pop()
            try:
                return run(network, images)
            finally:
                idle.append(network)

        yield lambda images: torch.cat(at_once(piece, torch.split(images, _PIECE)))


def _copies(model: nn.Module) -> list[nn.Module]:
    try:
        return replicate(model, min(_PREDICTING, torch.get_num_threads()), buffers=False)
    except TrainingError:
        return [model]
