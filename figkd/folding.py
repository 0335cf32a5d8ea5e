"""Batch norm folded into the convolution before it: a frozen network without the passes over memory that it takes."""

from __future__ import annotations

from collections import Counter
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from figkd.errors import TrainingError
from figkd.models import ImageClassifier
from figkd.replicas import replicate

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folded(model: nn.Module) -> nn.Module:
    """A network for evaluation that computes the same, up to rounding, with fewer operations.

    It runs the same code: a folded batch norm becomes the identity and keeps its attributes.

    Args:
        model: in eval mode; stays as it is.

    Returns:
        A copy that shares what is not changed, or the network itself where nothing is found to fold: it cannot be
        traced or copied, or hooks or parametrisations compute its weights.
    """
    try:
        _, probe, made = replicate(model, 3, buffers=False)
    except TrainingError:
        return model
    for module in probe.modules():  # tracing runs the network's code, which may change them
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())
    pairs = _pairs(probe.backbone if isinstance(probe, ImageClassifier) else probe)
    network = made.backbone if isinstance(made, ImageClassifier) else made
    for convolution, norm in pairs:
        conv = cast(nn.Conv2d, network.get_submodule(convolution))
        batch = cast(nn.BatchNorm2d, network.get_submodule(norm))
        mean, variance = cast(Tensor, batch.running_mean), cast(Tensor, batch.running_var)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, variance, batch.eps, batch.weight, batch.bias
        )
        batch.__class__ = nn.Identity  # type: ignore[assignment]  # with all that the network's code may read of it
    return made if pairs else model


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions whose output only a batch norm reads, each with its own."""
    try:
        with torch.random.fork_rng(devices=[]):
            graph = fx.symbolic_trace(network).graph
    except Exception:  # its code cannot be traced: whatever it raises is not about what is wrong with it
        return []
    modules = dict(network.named_modules())
    layers = {node: modules[node.target] for node in graph.nodes if node.op == "call_module"}
    calls = Counter(layers.values())
    read = {node.target.rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}

    def plain(node: fx.Node, kinds: tuple[type[nn.Module], ...]) -> bool:
        """Whether it calls such a layer, here alone, and nothing else computes or reads the layer's weights."""
        layer = layers.get(node)
        if layer is None or type(layer) not in kinds:
            return False
        hooks = layer._forward_pre_hooks or layer._forward_hooks
        return calls[layer] == 1 and node.target not in read and not hooks

    found = []
    for node, layer in layers.items():
        if not plain(node, _NORMS) or len(node.args) != 1 or not layer.track_running_stats:
            continue
        (before,) = node.args
        if plain(before, _CONVOLUTIONS) and len(before.users) == 1:
            found.append((before.target, node.target))
    return found
