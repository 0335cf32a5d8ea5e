"""What a step of training minimises, as one function that may be compiled."""

from __future__ import annotations

import contextlib
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from figkd.distributed import World
from figkd.errors import TrainingError
from figkd.loss.parts import InParts, Parts, total

Compile = Literal["auto", "none", "default", "reduce-overhead"]
Outcome = tuple[Tensor, Tensor, Parts]
"""The mean loss of a micro-batch, the logits of this process's images, and the loss's parts, without gradient."""
Objective = Callable[[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None, int], Outcome]


class Loss(Protocol):
    """What `train` calls: a scalar of student logits [B, C], teacher logits [B, C] or None, labels [B]."""

    def __call__(self, student: Tensor, teacher: Tensor | None, labels: Tensor, /) -> Tensor:
        """Scalar loss."""
        ...


def make_objective(
    net: Callable[[Tensor], Tensor], loss: Loss, device: str, amp: str, world: World
) -> Objective:
    """The loss of a micro-batch over all processes, and the logits of this process's `images`."""

    in_parts = _in_parts(loss)

    def gathered(part: Tensor, count: int) -> Tensor:
        return part if world.size == 1 else world.gather(part, count)

    def objective(
        images: Tensor,
        soft: Tensor | None,
        labels: Tensor,
        other: Tensor | None,
        share: Tensor | None,
        count: int,
    ) -> Outcome:
        with autocast(device, amp):
            logits = net(images)
        # A loss may compare the images of a batch with each other (DIST does): it needs all of them.
        all_logits, teacher = gathered(logits, count), None if soft is None else gathered(soft, count)
        value, parts = in_parts(all_logits, teacher, gathered(labels, count))
        if other is not None and share is not None:
            mixed_in, others = in_parts(all_logits, teacher, gathered(other, count))
            share = share.to(value.dtype)
            value = torch.lerp(mixed_in, value, share)
            parts = {name: torch.lerp(others[name], part, share) for name, part in parts.items()}
        return value, logits, parts

    return objective


def _in_parts(loss: Loss) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Parts]]:
    """The loss as a function that gives its parts too, none where it does not say what they are."""
    if not isinstance(loss, InParts):
        return lambda student, teacher, labels: (loss(student, teacher, labels), {})

    def function(student: Tensor, teacher: Tensor | None, labels: Tensor) -> tuple[Tensor, Parts]:
        parts = loss.parts(student, teacher, labels)
        return total(parts), {name: part.detach() for name, part in parts.items()}

    return function


def compiled(function: Any, mode: str) -> Any:
    """The function, compiled unless the mode is "none"."""
    # Without dynamic shapes each of the (at most two) batch sizes gets kernels and a graph of its own.
    return function if mode == "none" else torch.compile(function, mode=mode, dynamic=False)


def compile_mode(compile: Compile, device: str, world: World, accumulate: int) -> str:
    """What `compile` comes to on this machine."""
    if compile != "auto":
        return compile
    if torch.device(device).type != "cuda" or not _builds_launchers():
        return "none"
    return "reduce-overhead" if world.size == 1 and accumulate == 1 else "default"


def _builds_launchers() -> bool:
    """Whether Triton can: it writes them in C, for a compiler that it knows by name and with Python's headers."""
    # Debian's own scheme names /usr/local, where no headers are.
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    header = Path(sysconfig.get_path("include", scheme)) / "Python.h"
    return header.is_file() and any(map(shutil.which, ("gcc", "clang")))


@contextlib.contextmanager
def compilable(mode: str) -> Iterator[None]:
    """Turn torch.compile's failure in this block into an error that says how to do without it."""
    if mode == "none":
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"torch.compile failed: {reason}", "set compile: none") from error


def autocast(device: str, amp: str) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 where `amp` says so."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp == "bf16")
