"""KL divergence of two distributions over classes, taken apart by a Haar tree, fine to coarse.

Neighbouring classes, then pairs of pairs, and so on, are joined to nodes; a node's mass is the probability of its
classes. The tree's chain rule writes KL(teacher || student) as a sum over its nodes: the teacher's mass of the node
times the KL divergence of how the two divide that mass between the node's halves. These divisions are the
multinomial's Haar details (Kolaczyk and Nowak, "Multiscale likelihood analysis and complexity penalized estimation",
Annals of Statistics 2004). Weighting bands, and replacing the mass by a power of it, gives the family that FiGKD
transfers; with all bands, weight 1 and power 1 it is Hinton's KL divergence.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from figkd.loss.class_tree import ClassTree
from figkd.loss.wavelet import band_names, check_band_weights

# Keeps 0 / 0 out of empty nodes; far below any probability that matters, above float32's smallest number.
_TINY = 1e-37
# Log of the mass of a place without a class: no probability, and finite differences.
_EMPTY = -1e9
# Leaves of the tree that are worked on at a time on a CPU: larger arrays cost more in memory traffic than small ones in
# overhead (benchmarks/bench_loss.py).
_CHUNK = 65536


def band_weights_of(
    level: int, weights: Mapping[str, float] | None = None, decay: float = 1.0
) -> tuple[float, ...]:
    """Weights of the bands fine to coarse, d1..dL, and last that of the approximation, aL.

    Raises:
        FigkdError: as `figkd.loss.wavelet.check_band_weights`.
    """
    return tuple(reversed(check_band_weights(band_names(level), weights, decay).values()))


def multiscale_kl(
    student: Tensor, teacher: Tensor, tree: ClassTree, *, mass_power: float, temperature: float
) -> Tensor:
    """T^2 times the mean over the batch of the weighted sum of the nodes' KL divergences.

    sum over bands j of w_j * sum over nodes n of band j of P(n)^mass_power * KL(P(. | n) || Q(. | n)), P and Q the
    softmax of teacher / T and student / T; plus w_a times the KL divergence of the masses of the coarsest nodes. The
    gradient is in closed form, so that nothing but it is kept for the backward pass.

    Args:
        student: [B, C], float32 or float64.
        teacher: [B, C], the same type.
        tree: the nodes and the weights w of their bands.
        mass_power: 1 weighs a node by its mass, as KL does; 0 weighs all nodes alike.
        temperature: T.
    """
    return cast(Tensor, _MultiscaleKL.apply(student, teacher, tree, mass_power, temperature))


class _MultiscaleKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, tree: ClassTree, mass_power: float, temperature: float
    ) -> Tensor:
        batch, rows = len(student), rows_at_a_time(student, tree)
        # Autocast would run the products in half precision.
        with torch.autocast(student.device.type, enabled=False):
            parts = [
                walk(one, other, tree, mass_power, temperature)
                for one, other in zip(torch.split(student, rows), torch.split(teacher, rows), strict=True)
            ]
        slopes = [part.slope for part in parts]
        ctx.save_for_backward(slopes[0] if len(slopes) == 1 else torch.cat(slopes))
        ctx.scale, ctx.places = -temperature / batch, tree.places  # a buffer, which nothing changes
        values = [part.value for part in parts]
        value = values[0] if len(values) == 1 else torch.stack(values).sum()
        return value * (temperature**2 / batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        scale = upstream * ctx.scale
        if ctx.places is None:
            return slope * scale, None, None, None, None
        return slope.index_select(1, ctx.places).mul_(scale), None, None, None, None


@dataclass(frozen=True)
class Walk:
    """The loss of some rows, and what it was computed from.

    Attributes:
        value: the loss summed over the rows, over T^2.
        slope: its gradient over -T, by leaf: [B, leaves].
        ours: softmax of the student's logits over T by leaf: [B, leaves].
        theirs: the same of the teacher.
        log_sum: log of the sum of exp(student / T), [B, 1].
    """

    value: Tensor
    slope: Tensor
    ours: Tensor
    theirs: Tensor
    log_sum: Tensor


def rows_at_a_time(student: Tensor, tree: ClassTree) -> int:
    """How many rows of logits to `walk` at a time."""
    if student.device.type != "cpu" or torch.compiler.is_compiling():
        return len(student)
    return max(1, _CHUNK // tree.leaves)


def walk(student: Tensor, teacher: Tensor, tree: ClassTree, mass_power: float, temperature: float) -> Walk:
    """Up the tree for the masses, down for the gradient; arguments as of `multiscale_kl`. Not under autocast."""
    batch = len(student)
    logits = _arranged(student, teacher, tree).mul_(1 / temperature)
    both = torch.softmax(logits, dim=1)
    q, p = both[:batch], both[batch:]
    # log_softmax from what there is; the probability of the largest logit is far from 0.
    log_sum = logits.amax(1, keepdim=True) - both.amax(1, keepdim=True).log_()
    log_ratio = (logits[batch:] - logits[:batch]).sub_(log_sum[batch:] - log_sum[:batch])
    bands = [both]
    for _ in range(tree.folds):
        half = bands[-1].shape[1] // 2
        bands.append(bands[-1][:, :half] + bands[-1][:, half:])
    sizes = [band.shape[1] for band in bands[1:]]
    if tree.members is not None:
        bands.append(bands[-1] @ tree.members.to(both.dtype))
    nodes = (torch.cat(bands[1:], dim=1) if len(bands) > 2 else bands[1]).add_(_TINY)
    ours, theirs = nodes[:batch], nodes[batch:]
    ratio = theirs / ours
    # With D = log(P / Q), a node n adds w P(n)^(a-1) (sum over its halves c of P(c) D(c) - P(n) D(n)): `factors` has
    # what each D is multiplied with, beside P; `above` the same for the leaves.
    own = theirs.rsqrt() if mass_power == 0.5 else theirs.pow(mass_power - 1)
    factors, above = _factors(own, sizes, tree)
    slope, flow = above.mul_(p), factors.mul_(ratio)
    value = torch.dot(slope.flatten(), log_ratio.flatten())
    value = value + torch.dot(ratio.log_().mul_(ours).flatten(), flow.flatten())
    # d log Q(c) / d s_k = Q(k) (1[k in c] / Q(c) - 1): pass factor * P / Q from the root down to the leaves. The second
    # term adds up to the weight of the coarsest nodes: all others give to their halves what they take themselves.
    down = _down(flow, sizes, tree)
    slope = slope.addcmul_(q, down)
    if tree.coarsest:
        slope.sub_(q, alpha=tree.coarsest)
    return Walk(value, slope, q, p, log_sum[:batch])


def _arranged(student: Tensor, teacher: Tensor, tree: ClassTree) -> Tensor:
    """The logits by leaf, student above teacher: [2 B, leaves]."""
    logits = torch.cat([student, teacher])
    if tree.index is not None:
        logits = logits.index_select(1, tree.index)
    return logits if tree.empty is None else logits.index_fill_(1, tree.empty, _EMPTY)


def _factors(own: Tensor, sizes: list[int], tree: ClassTree) -> tuple[Tensor, Tensor]:
    """The factor of every node [B, nodes], and what the leaves are given [B, leaves], from P^(a-1) of every node."""
    fine = sum(sizes)
    coarse, given = own[:, fine:], None
    if tree.spread is not None and tree.constant is not None:
        both = torch.addmm(tree.constant.to(own.dtype), coarse, tree.spread.to(own.dtype))
        coarse, given = both[:, : coarse.shape[1]], both[:, coarse.shape[1] :]
        if not sizes:
            return coarse.contiguous(), given.contiguous()
    weighted = own * tree.weights.to(own.dtype)
    factors = weighted.neg()
    start = 0
    for size, larger in itertools.pairwise(sizes):
        parents = weighted[:, start + size : start + size + larger]
        factors[:, start : start + larger] += parents
        factors[:, start + larger : start + size] += parents
        start += size
    if given is not None:
        factors[:, start:fine] += given
        factors[:, fine:] = coarse
    elif tree.coarsest:
        factors[:, start:fine] += tree.coarsest
    finest = weighted[:, : sizes[0]]
    return factors, torch.cat([finest, finest], dim=1)


def _down(flow: Tensor, sizes: list[int], tree: ClassTree) -> Tensor:
    """What every leaf collects of the nodes that contain it, [B, leaves]; overwrites `flow` [B, nodes]."""
    fine = sum(sizes)
    if tree.members is not None:
        collected = flow[:, fine:] @ tree.members.T.to(flow.dtype)
        if not sizes:
            return collected
        flow[:, fine - sizes[-1] : fine] += collected
    stop = fine
    for larger, size in itertools.pairwise(reversed(sizes)):
        parents = flow[:, stop - larger : stop]
        stop -= larger
        flow[:, stop - size : stop - larger] += parents
        flow[:, stop - larger : stop] += parents
    finest = flow[:, : sizes[0]]
    return torch.cat([finest, finest], dim=1)
