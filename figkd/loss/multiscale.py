"""KL divergence of two distributions over classes, taken apart by a Haar tree, coarse to fine.

Neighbouring classes, then pairs of pairs, and so on, are joined to nodes; a node's mass is the probability of its
classes. The tree's chain rule writes KL(teacher || student) as a sum over its nodes: the teacher's mass of the node
times the KL divergence of how the two divide that mass between the node's halves. These divisions are the
multinomial's Haar details (Kolaczyk and Nowak, "Multiscale likelihood analysis and complexity penalized estimation",
Annals of Statistics 2004). Dropping the coarse bands, weighting bands, and replacing the mass by a power of it gives
the family that FiGKD transfers; with all bands, weight 1 and power 1 it is Hinton's KL divergence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from figkd.loss.wavelet import band_names, check_band_weights

# Keeps 0 / 0 out of empty nodes; far below any probability that matters, above float32's smallest number.
_TINY = 1e-37
# Leaves of the tree that are worked on at a time on a CPU: larger arrays cost more in memory traffic than small ones in
# overhead (benchmarks/bench_loss.py).
_CHUNK = 65536


def fold_index(order: npt.ArrayLike, level: int) -> npt.NDArray[np.int64]:
    """Arrange classes so that each level of the tree joins the first half of an axis with its second half.

    Halves are contiguous, which is what makes the folds fast. An odd node has no sibling: its place is filled
    with an empty class.

    Args:
        order: class order [C]; position i of the tree's leaves holds class order[i].
        level: number of levels, 1..ceil(log2(C)).

    Returns:
        int64 [n], n = C rounded up to a multiple of 2^level; entry C stands for the empty class.
    """
    leaves = np.asarray(order, dtype=np.int64)
    block = 1 << level
    count = math.ceil(len(leaves) / block)
    padded = np.full(count * block, len(leaves), dtype=np.int64)
    padded[: len(leaves)] = leaves
    bits = [int(format(i, f"0{level}b")[::-1], 2) for i in range(block)]
    return cast("npt.NDArray[np.int64]", padded.reshape(count, block)[:, bits].T.reshape(-1).copy())


def band_weights_of(
    level: int, weights: Mapping[str, float] | None = None, decay: float = 1.0
) -> tuple[float, ...]:
    """Weights of the bands fine to coarse, d1..dL, and last that of the approximation, aL.

    Raises:
        FigkdError: as `figkd.loss.wavelet.check_band_weights`.
    """
    return tuple(reversed(check_band_weights(band_names(level), weights, decay).values()))


def multiscale_kl(
    student: Tensor,
    teacher: Tensor,
    index: Tensor,
    bands: Sequence[float],
    *,
    mass_power: float,
    temperature: float,
) -> Tensor:
    """T^2 times the mean over the batch of the weighted sum of the nodes' KL divergences.

    sum over bands j of bands[j-1] * sum over nodes n of band j of P(n)^mass_power * KL(P(. | n) || Q(. | n)),
    P and Q the softmax of teacher / T and student / T; plus bands[-1] times the KL divergence of the masses of the
    coarsest nodes. The gradient is in closed form, so that nothing but it is kept for the backward pass.

    Args:
        student: [B, C], float32 or float64.
        teacher: [B, C], the same type.
        index: int64 [n], from `fold_index`.
        bands: weights from `band_weights_of`, L + 1 of them.
        mass_power: 1 weighs a node by its mass, as KL does; 0 weighs all nodes alike.
        temperature: T.
    """
    return cast(
        Tensor,
        _MultiscaleKL.apply(student, teacher, index, tuple(bands), mass_power, temperature),
    )


class _MultiscaleKL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        index: Tensor,
        bands: tuple[float, ...],
        mass_power: float,
        temperature: float,
    ) -> Tensor:
        rows = len(student)
        if student.device.type == "cpu" and not torch.compiler.is_compiling():
            rows = max(1, _CHUNK // len(index))
        parts = [
            _value_and_gradient(one, other, index, bands, mass_power, temperature)
            for one, other in zip(torch.split(student, rows), torch.split(teacher, rows), strict=True)
        ]
        batch = len(student)
        ctx.save_for_backward(torch.cat([slope for _, slope in parts]) / batch)
        return torch.stack([value for value, _ in parts]).sum() / batch

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None, None


def _value_and_gradient(
    student: Tensor,
    teacher: Tensor,
    index: Tensor,
    bands: tuple[float, ...],
    mass_power: float,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """The loss summed over the rows of a chunk, and its gradient [B, C]."""
    batch, classes = student.shape
    both = torch.softmax(torch.cat([student, teacher]) / temperature, dim=1)
    leaves = functional.pad(both, (0, 1)).index_select(1, index)
    masses = [leaves]  # of the nodes of every level, leaves first; student above teacher
    for _ in bands[1:]:
        half = masses[-1].shape[1] // 2
        masses.append(masses[-1][:, :half] + masses[-1][:, half:])
    sizes = [mass.shape[1] for mass in masses]
    nodes = torch.cat(masses, dim=1) + _TINY
    q, p = nodes[:batch], nodes[batch:]
    # With D = log(P / Q), a node n adds w P(n)^(a-1) (sum over its halves c of P(c) D(c) - P(n) D(n)): collect the
    # factors of each D.
    inner = p[:, sizes[0] :]
    weights = torch.split(inner.rsqrt() if mass_power == 0.5 else inner.pow(mass_power - 1), sizes[1:], dim=1)
    own = [weight * band for weight, band in zip(weights, bands, strict=False)]
    parents = [torch.cat([w, w], dim=1) for w in own]
    parents.append(torch.full_like(own[-1], bands[-1]))
    own.insert(0, torch.zeros_like(leaves[:batch]))
    factors = torch.cat(parents, dim=1) - torch.cat(own, dim=1)
    ratio = p / q
    value = (factors * p * torch.log(ratio)).sum() * temperature**2
    # d log Q(c) / d s_k = Q(k) (1[k in c] / Q(c) - 1): pass factor * P / Q from the root down to the leaves.
    down = torch.split(factors * ratio, sizes, dim=1)
    total = down[-1]
    for part in reversed(down[:-1]):
        total = part + torch.cat([total, total], dim=1)
    share = leaves[:batch]
    # The mean over classes, not the sum of the shares: those of empty nodes are 0 / 0.
    mean = (share * total).sum(dim=1, keepdim=True)
    slope = (mean - total) * share * temperature
    return value, slope.new_zeros(batch, classes + 1).index_copy_(1, index, slope)[:, :classes]
