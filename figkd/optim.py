"""Optimizers: which parameters are decayed, and the fastest implementation that the device has."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import nn

from figkd.errors import TrainingError
from figkd.muon import Muon, weight_matrices

OptimizerName = Literal["sgd", "adamw", "muon"]


def make_optimizer(
    model: nn.Module,
    name: OptimizerName,
    *,
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
        lr: learning rate.
        weight_decay: L2 for SGD, decoupled for AdamW and for the matrices of Muon, whose other parameters are SGD's.
        momentum: of SGD and Muon.
        nesterov: for SGD and Muon; without momentum it means nothing.
        decay_norms: decay every parameter, as most published recipes do, instead of only those with two or more
            dimensions (norms and biases have one).

    Raises:
        TrainingError: unknown name, or nothing to train.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("the model has no parameters to train")
    matrices = weight_matrices(model) if name == "muon" else {}
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
