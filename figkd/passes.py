"""Forward and backward passes over micro-batches: by one network, or by replicas that share each on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from figkd.distributed import World, spans
from figkd.errors import TrainingError
from figkd.feed import Batch
from figkd.folding import folded
from figkd.objective import Loss, Objective, Outcome, autocast, compiled, make_objective
from figkd.openmp import placed_by_load
from figkd.replicas import (
    AtOnce,
    average,
    draws,
    in_turn,
    places_of_buffers,
    predictor,
    replicate,
    side_by_side,
    threads,
)


class Epoch(NamedTuple):
    """The passes of an epoch.

    Attributes:
        run: adds the gradients of a micro-batch to the network's, and returns what it came to.
        at_once: a `map` over the threads that do so.
    """

    run: Callable[[Batch], Outcome]
    at_once: AtOnce


class Passes(Protocol):
    """How micro-batches pass through a network."""

    def epoch(self) -> contextlib.AbstractContextManager[Epoch]:
        """The passes of an epoch."""
        ...


def make_passes(
    model: nn.Module,
    loss: Loss,
    teacher: nn.Module | None,
    *,
    replicas: int,
    image_size: int,
    averaged: bool,
    device: str,
    amp: str,
    mode: str,
    world: World,
) -> Passes:
    """The passes of a training; arguments as those of `figkd.train.train`, and what follows from them.

    Args:
        averaged: whether weights and buffers are averaged over steps (`ema_decay`).
        mode: of torch.compile.

    Raises:
        TrainingError: replicas that are compiled, or of a network that cannot be copied.
    """
    teacher = None if teacher is None else folded(teacher)
    if replicas == 1 or torch.device(device).type != "cpu" or world.size > 1:
        return _Whole(model, loss, teacher, device, amp, mode, world)
    if mode != "none":
        raise TrainingError(
            f"compile: {mode} with {replicas} replicas on a CPU", "compile: none, or replicas: 1"
        )
    return _Shared(model, loss, teacher, replicas, image_size, averaged, device, amp)


class _Whole:
    """One network takes the whole micro-batch, or this process's share of it."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        teacher: nn.Module | None,
        device: str,
        amp: str,
        mode: str,
        world: World,
    ) -> None:
        self._teacher, self._device, self._amp, self._world = teacher, device, amp, world
        net: Any = model
        if world.size > 1:
            # The network is compiled inside of DDP: the hooks that exchange gradients stay as they are.
            ids = [torch.cuda.current_device()] if torch.device(device).type == "cuda" else None
            net = DistributedDataParallel(compiled(model, mode), device_ids=ids)
        self._net = net
        objective = make_objective(net, loss, device, amp, world)
        self._objective: Objective = objective if world.size > 1 else compiled(objective, mode)

    @contextlib.contextmanager
    def epoch(self) -> Iterator[Epoch]:
        cpu = torch.device(self._device).type == "cpu"
        # The threads of the teacher's replicas start first, or they would have the place of this one.
        with (
            _asking(self._teacher, self._device, self._amp) as ask,
            placed_by_load() if cpu else contextlib.nullcontext(),
        ):

            def run(batch: Batch) -> Outcome:
                soft = ask(batch)
                # Gradients are exchanged once a step.
                alone = self._world.size > 1 and not batch.slot.last
                with self._net.no_sync() if alone else contextlib.nullcontext():
                    outcome = _outcome(self._objective, batch.images, batch, soft)
                    # Each process has the gradient of its own images, and DDP takes the mean over the processes.
                    weight = batch.slot.weight * self._world.size
                    _weighted(outcome, weight).backward()  # type: ignore[no-untyped-call]
                return outcome

            yield Epoch(run, in_turn)


class _Shared:
    """Replicas take a part of the micro-batch each, and the loss sees the logits of all."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        teacher: nn.Module | None,
        replicas: int,
        image_size: int,
        averaged: bool,
        device: str,
        amp: str,
    ) -> None:
        self._teacher, self._device, self._amp = teacher, device, amp
        self._nets = replicate(model, replicas, buffers=True)
        statistics, others = zip(*map(places_of_buffers, self._nets), strict=True)
        # The average of weights over steps takes in the statistics at every step.
        self._each_step = [a + b for a, b in zip(statistics, others, strict=True)] if averaged else others
        self._each_epoch = statistics
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._objective = make_objective(lambda logits: logits, loss, device, amp, World())
        self._at_once = 1 if draws(model, image_size) else replicas

    @contextlib.contextmanager
    def epoch(self) -> Iterator[Epoch]:
        for net in self._nets:
            net.train()
        # Loss and optimizer too: the number of threads must not change the bits of a sum.
        share = max(torch.get_num_threads() // self._at_once, 1)
        with (
            _asking(self._teacher, self._device, self._amp) as ask,
            side_by_side(self._at_once) as at_once,
            threads(share),
        ):

            def run(batch: Batch) -> Outcome:
                parts = spans((0, len(batch.images)), len(self._nets))
                found = at_once(
                    self._forward, self._nets, [batch.images[start:stop] for start, stop in parts]
                )
                logits = torch.cat([part.detach() for part in found]).requires_grad_()
                outcome = _outcome(self._objective, logits, batch, ask(batch))
                (slope,) = torch.autograd.grad(_weighted(outcome, batch.slot.weight), [logits])
                gradients = at_once(self._backward, found, [slope[start:stop] for start, stop in parts])
                for given in gradients:  # in the order of the parts, so that a sum repeats its bits
                    _add(self._trained, given)
                average(self._each_step)
                return outcome

            yield Epoch(run, at_once)
        average(self._each_epoch)

    def _forward(self, net: nn.Module, images: Tensor) -> Tensor:
        with autocast(self._device, self._amp):
            return cast(Tensor, net(images))

    def _backward(self, logits: Tensor, slope: Tensor) -> Sequence[Tensor | None]:
        return torch.autograd.grad(logits, self._trained, slope, allow_unused=True)


@contextlib.contextmanager
def _asking(teacher: nn.Module | None, device: str, amp: str) -> Iterator[Callable[[Batch], Tensor | None]]:
    """The teacher's logits of a batch: those that it comes with, or those of an online teacher."""
    if teacher is None:
        yield lambda batch: batch.soft
        return
    with predictor(teacher, device, amp) as logits:
        yield lambda batch: logits(batch.images)


def _outcome(objective: Objective, given: Tensor, batch: Batch, soft: Tensor | None) -> Outcome:
    return objective(given, soft, batch.labels, batch.other, batch.share, batch.slot.images)


def _weighted(outcome: Outcome, weight: float) -> Tensor:
    value, *_ = outcome
    return value if weight == 1 else value * weight


def _add(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    sums, added = [], []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is not None:
            sums.append(parameter.grad)
            added.append(gradient)
        elif gradient.stride() == parameter.stride():
            parameter.grad = gradient
        else:  # fused optimizers read both as they lie in memory
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
    if sums:
        torch._foreach_add_(sums, added)
