"""Optimizers: which parameters are decayed, which are updated at the same time, and the fastest implementation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from figkd.errors import TrainingError
from figkd.muon import Muon, products, weight_matrices

OptimizerName = Literal["sgd", "adamw", "muon"]


def make_optimizer(
    model: nn.Module,
    name: OptimizerName,
    *,
    only: Collection[nn.Parameter] | None = None,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    nesterov: bool = True,
    decay_norms: bool = False,
) -> torch.optim.Optimizer:
    """Make an optimizer of the trainable parameters.

    Args:
        model: on the device that it is trained on.
        name: "sgd", "adamw" or "muon" (see `figkd.muon.Muon`).
        only: those of a share (see `shares`).
        lr: learning rate.
        weight_decay: L2 for SGD, decoupled for AdamW and for the matrices of Muon, whose other parameters are SGD's.
        momentum: of SGD and Muon.
        nesterov: for SGD and Muon; without momentum it means nothing.
        decay_norms: decay every parameter, as most published recipes do, instead of only those with two or more
            dimensions (norms and biases have one).

    Raises:
        TrainingError: unknown name, or nothing to train.
    """
    trained = _trainable(model)
    if not trained:
        raise TrainingError("the model has no parameters to train")
    matrices = weight_matrices(model) if name == "muon" else {}
    if only is not None:
        trained = [parameter for parameter in trained if parameter in only]
        matrices = {weight: count for weight, count in matrices.items() if weight in only}
    others = [parameter for parameter in trained if parameter not in matrices]
    groups: list[dict[str, Any]] = [
        {"params": list(matrices), "matrices": list(matrices.values()), "weight_decay": weight_decay},
        {"params": [p for p in others if decay_norms or p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in others if not decay_norms and p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    nesterov = nesterov and momentum > 0
    if name == "muon":
        return Muon(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    kind: Any
    if name == "sgd":
        kind, options = torch.optim.SGD, {"momentum": momentum, "nesterov": nesterov}
    elif name == "adamw":
        kind, options = torch.optim.AdamW, {}
    else:
        raise TrainingError(f"unknown optimizer {name!r}", f"one of {', '.join(get_args(OptimizerName))}")
    try:
        return kind(groups, lr=lr, fused=True, **options)  # type: ignore[no-any-return]
    except RuntimeError:  # a device, or a parameter's type, that has no fused kernel
        return kind(groups, lr=lr, foreach=True, **options)  # type: ignore[no-any-return]


def shares(model: nn.Module, name: OptimizerName, count: int) -> list[set[nn.Parameter]]:
    """Share out the trainable parameters so that each of `count` optimizers has about as much to do.

    Fewer, and at least one, where there are fewer matrices. SGD and AdamW are not shared: they have too little to do to
    gain by it.
    """
    trained = _trainable(model)
    matrices = weight_matrices(model) if name == "muon" else {}
    found: list[set[nn.Parameter]] = [set() for _ in range(max(min(count, len(matrices)), 1))]
    work = {p: products(p, matrices[p]) if p in matrices else p.numel() for p in trained}
    loads = [0] * len(found)
    for parameter in sorted(trained, key=work.__getitem__, reverse=True):
        least = loads.index(min(loads))
        found[least].add(parameter)
        loads[least] += work[parameter]
    return found


class Optimizers:
    """Optimizers of one network, each of a share of its parameters."""

    def __init__(self, each: Sequence[torch.optim.Optimizer]) -> None:
        self._each = each

    def step(self, lr: float, at_once: Callable[..., list[Any]]) -> None:
        """Update all parameters at the learning rate `lr`, and drop their gradients.

        `at_once` is a `map` over the optimizers (see `figkd.replicas.side_by_side`).
        """

        def update(optimizer: torch.optim.Optimizer) -> None:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        at_once(update, self._each)

    def state_dict(self) -> dict[str, Any]:
        """The state of the only one, or of each."""
        states = [optimizer.state_dict() for optimizer in self._each]
        return states[0] if len(states) == 1 else {"each": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of as many."""
        for optimizer, saved in zip(self._each, state.get("each", [state]), strict=True):
            optimizer.load_state_dict(saved)


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
