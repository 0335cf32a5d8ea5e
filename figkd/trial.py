"""Steps that are tried before a training, and leave it as it is."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from figkd.feed import Feed
from figkd.objective import Loss
from figkd.passes import Passes

_KNOWN = ("torch.nn.", "timm.", "torchvision.", "figkd.")
"""Packages whose networks change nothing but their own parameters and buffers, and draw from torch's generator only."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

MakePasses = Callable[[nn.Module, Loss], Passes]


def leaves_no_trace(*networks: nn.Module) -> bool:
    """Whether nothing notices that copies of these networks run: no code of others, in modules or hooks."""
    return all(
        type(module).__module__.startswith(_KNOWN)
        and "forward" not in vars(module)
        and not any(hooks for name, hooks in vars(module).items() if name in _HOOKS)
        for network in networks
        for module in network.modules()
    )


@contextlib.contextmanager
def step_of_a_copy(make: MakePasses, model: nn.Module, feed: Feed) -> Iterator[Callable[[], object]]:
    """The passes of a copy over a first micro-batch, with cross entropy for a loss.

    Args:
        make: from a network and a loss; a teacher is among what it knows.
        model: `leaves_no_trace`, as its teacher does.
        feed: of the training, on a CPU.
    """
    batch = next(feed.epoch(0))
    with make(copy.deepcopy(model).train(), _cross_entropy).epoch() as (run, _):
        yield lambda: run(batch)


def _cross_entropy(student: Tensor, _teacher: Tensor | None, labels: Tensor) -> Tensor:
    return F.cross_entropy(student, labels)
