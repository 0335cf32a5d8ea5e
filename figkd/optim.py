"""Optimizers: which parameters are decayed, and the fastest implementation that the device has."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import nn

from figkd.errors import TrainingError

OptimizerName = Literal["sgd", "adamw"]


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
        name: "sgd" or "adamw".
        lr: learning rate.
        weight_decay: L2 for SGD, decoupled for AdamW.
        momentum: of SGD.
        nesterov: for SGD; without momentum it means nothing.
        decay_norms: decay every parameter, as most published recipes do, instead of only those with two or more
            dimensions (norms and biases have one).

    Raises:
        TrainingError: unknown name, or nothing to train.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("the model has no parameters to train")
    groups = [
        {"params": [p for p in trained if decay_norms or p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if not decay_norms and p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    kind: Any
    if name == "sgd":
        kind, options = torch.optim.SGD, {"momentum": momentum, "nesterov": nesterov and momentum > 0}
    elif name == "adamw":
        kind, options = torch.optim.AdamW, {}
    else:
        raise TrainingError(f"unknown optimizer {name!r}", f"one of {', '.join(get_args(OptimizerName))}")
    try:
        return kind(groups, lr=lr, fused=True, **options)  # type: ignore[no-any-return]
    except RuntimeError:  # a device, or a parameter's type, that has no fused kernel
        return kind(groups, lr=lr, foreach=True, **options)  # type: ignore[no-any-return]
