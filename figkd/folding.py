"""Batch norm folded into the convolution before it: a frozen network without the passes over memory that it takes."""

from __future__ import annotations

import copy
from collections import Counter
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from figkd.models import ImageClassifier

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folded(model: nn.Module) -> nn.Module:
    """A network for evaluation that computes the same, up to rounding, with fewer operations.

    It runs the same code: a folded batch norm is replaced by the identity.

    Args:
        model: in eval mode; stays as it is.

    Returns:
        A copy that shares what is not changed, or the network itself where nothing is found to
        fold: it cannot be traced or copied, or hooks or parametrisations compute its weights.
    """
    pairs = _pairs(model.backbone if isinstance(model, ImageClassifier) else model)
    if not pairs:
        return model
    places = {module: name for name, module in model.named_modules()}
    kept = [*model.parameters(), *model.buffers()]
    try:
        made = copy.deepcopy(model, {id(tensor): tensor for tensor in kept})
    except (RuntimeError, TypeError):
        return model
    for conv, norm in pairs:
        fused = cast(nn.Conv2d, made.get_submodule(places[conv]))
        assert norm.running_mean is not None and norm.running_var is not None  # it tracks them
        fused.weight, fused.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        made.set_submodule(places[norm], nn.Identity())
    return made


def _pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose output only a batch norm reads, each with it."""
    try:
        graph = torch.fx.symbolic_trace(network).graph
    except Exception:  # its code cannot be traced: whatever it raises is not about what is wrong with it
        return []
    modules = dict(network.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or type(modules[node.target]) not in _NORMS:
            continue
        before = node.args[0]
        if (
            before.op != "call_module"
            or type(modules[before.target]) not in _CONVOLUTIONS
            or len(before.users) > 1
        ):
            continue
        conv, norm = modules[before.target], modules[node.target]
        if (
            calls[node.target] == calls[before.target] == 1
            and norm.track_running_stats
            and _plain(conv, norm)
        ):
            found.append((cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm)))
    return found


def _plain(*modules: nn.Module) -> bool:
    """Whether nothing but its forward pass is attached to any of them."""
    return not any(module._forward_pre_hooks or module._forward_hooks for module in modules)
