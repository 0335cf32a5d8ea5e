"""Forward and backward passes over the micro-batches of a step: one after the other, or side by side on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from figkd.distributed import World
from figkd.feed import Batch
from figkd.objective import Loss, Objective, Outcome, autocast, compiled, make_objective
from figkd.replicas import average_buffers, draws, predictor, replicate, side_by_side, threads

Run = Callable[[Sequence[Batch]], list[Outcome]]
"""Adds the gradients of `at_once` micro-batches to the network's, and returns what each came to."""


class Passes(Protocol):
    """How micro-batches pass through a network.

    Attributes:
        at_once: how many micro-batches a call takes.
    """

    at_once: int

    def epoch(self) -> contextlib.AbstractContextManager[Run]:
        """The passes of an epoch."""
        ...


def make_passes(
    model: nn.Module,
    loss: Loss,
    teacher: nn.Module | None,
    *,
    replicas: int,
    image_size: int,
    device: str,
    amp: str,
    mode: str,
    world: World,
) -> Passes:
    """The passes of a training; arguments as those of `figkd.train.train`, and the mode of torch.compile."""
    if replicas > 1 and torch.device(device).type == "cpu" and world.size == 1 and mode == "none":
        return _SideBySide(model, loss, teacher, replicas, image_size, device, amp)
    return _OneByOne(model, loss, teacher, device, amp, mode, world)


class _OneByOne:
    at_once = 1

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
    def epoch(self) -> Iterator[Run]:
        if self._teacher is None:
            yield lambda batches: [self._pass(batch, batch.soft) for batch in batches]
        else:
            with predictor(self._teacher, self._device, self._amp) as ask:
                yield lambda batches: [self._pass(batch, ask(batch.images)) for batch in batches]

    def _pass(self, batch: Batch, soft: Tensor | None) -> Outcome:
        # Gradients are exchanged once a step.
        alone = self._world.size > 1 and not batch.slot.last
        with self._net.no_sync() if alone else contextlib.nullcontext():
            outcome = _outcome(self._objective, batch, soft)
            # Each process has the gradient of its own images, and DDP takes the mean over the processes.
            _weighted(outcome, batch.slot.weight * self._world.size).backward()  # type: ignore[no-untyped-call]
        return outcome


class _SideBySide:
    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        teacher: nn.Module | None,
        replicas: int,
        image_size: int,
        device: str,
        amp: str,
    ) -> None:
        self.at_once = replicas
        self._device, self._amp = device, amp
        self._nets = replicate(model, replicas, buffers=True)
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._objectives = [make_objective(net, loss, device, amp, World()) for net in self._nets]
        self._teachers = [None] * replicas if teacher is None else replicate(teacher, replicas, buffers=False)
        self._threads = 1 if draws(model, image_size) else replicas

    @contextlib.contextmanager
    def epoch(self) -> Iterator[Run]:
        for net in self._nets:
            net.train()
        # The optimizer too: the number of threads must not change the bits of a norm.
        share = max(torch.get_num_threads() // self._threads, 1)
        with side_by_side(self._threads) as at_once, threads(share):

            def run(batches: Sequence[Batch]) -> list[Outcome]:
                passed = at_once(self._pass, self._objectives, self._teachers, batches)
                # In the order of the micro-batches, so that a sum repeats its bits.
                for place, parameter in enumerate(self._trained):
                    for _, gradients in passed:
                        _add(parameter, gradients[place])
                average_buffers(self._nets)
                return [outcome for outcome, _ in passed]

            yield run

    def _pass(
        self, objective: Objective, teacher: nn.Module | None, batch: Batch
    ) -> tuple[Outcome, Sequence[Tensor | None]]:
        soft = batch.soft
        if teacher is not None:
            with torch.no_grad(), autocast(self._device, self._amp):
                soft = teacher(batch.images).float()
        outcome = _outcome(objective, batch, soft)
        value = _weighted(outcome, batch.slot.weight)
        gradients = torch.autograd.grad(value, self._trained, allow_unused=True)
        return outcome, gradients


def _outcome(objective: Objective, batch: Batch, soft: Tensor | None) -> Outcome:
    return objective(batch.images, soft, batch.labels, batch.other, batch.share, batch.slot.images)


def _weighted(outcome: Outcome, weight: float) -> Tensor:
    value, *_ = outcome
    return value if weight == 1 else value * weight


def _add(parameter: Tensor, gradient: Tensor | None) -> None:
    if gradient is None:
        return
    if parameter.grad is not None:
        parameter.grad.add_(gradient)
    elif gradient.stride() == parameter.stride():
        parameter.grad = gradient
    else:  # fused optimizers read both as they lie in memory
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
