"""Cross entropy, the class tree's KL divergence and the correlation over the batch, from one softmax each.

The softmax at temperature T gives that at 1 by its T-th power, so that student and teacher are exponentiated once, and
the three gradients, in closed form, are brought from the tree's leaves to the classes together. The parts are those of
`functional.cross_entropy`, `multiscale.multiscale_kl` and `functional.batch_relation`, up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from figkd.loss.class_tree import ClassTree
from figkd.loss.functional import correlation
from figkd.loss.multiscale import rows_at_a_time, walk

# A uniform probability to the power T must be far from float32's smallest number.
_LEAST = 1e-30


@dataclass(frozen=True)
class Settings:
    """What the parts are made with.

    Attributes:
        task: weight of the cross entropy.
        detail: weight of the tree's divergence.
        correlation: weight of the correlation.
        mass_power: see `figkd.loss.multiscale.multiscale_kl`.
        temperature: T of the divergence.
        smoothing: label smoothing of the cross entropy.
    """

    task: float
    detail: float
    correlation: float
    mass_power: float
    temperature: float
    smoothing: float


def fits(classes: int, temperature: float) -> bool:
    """Whether a softmax at 1 follows from that at T without underflow."""
    return temperature * math.log10(classes) < -math.log10(_LEAST)


def joint(
    student: Tensor, teacher: Tensor, labels: Tensor, tree: ClassTree, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """The three parts, weights included: scalars.

    Args:
        student: [B, C], float32 or float64.
        teacher: [B, C], the same type.
        labels: int64 [B], in 0..C-1.
        tree: over the classes, with weights of the bands.
        settings: `fits` holds of C and the temperature.
    """
    return cast(tuple[Tensor, Tensor, Tensor], _Joint.apply(student, teacher, labels, tree, settings))


class _Joint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, labels: Tensor, tree: ClassTree, settings: Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, classes = student.shape
        temperature, rows = settings.temperature, rows_at_a_time(student, tree)
        with torch.autocast(student.device.type, enabled=False):
            walks = [
                walk(one, other, tree, settings.mass_power, temperature)
                for one, other in zip(torch.split(student, rows), torch.split(teacher, rows), strict=True)
            ]
            sharp = [_sharpened(part.softened, temperature) for part in walks]
            halves = [len(part.slope) for part in walks]
            ours = _joined([one[:half] for (one, _), half in zip(sharp, halves, strict=True)])
            other = _joined([one[half:] for (one, _), half in zip(sharp, halves, strict=True)])
            log_sum = _joined(
                [
                    part.log_sum[:half] * temperature + total[:half].log()
                    for part, (_, total), half in zip(walks, sharp, halves, strict=True)
                ]
            )
            agreement, relation = correlation(ours, other)
        own = labels.unsqueeze(1)
        entropy = (log_sum - student.gather(1, own)).mean()
        if settings.smoothing:
            entropy = torch.lerp(entropy, (log_sum.squeeze(1) - student.mean(1)).mean(), settings.smoothing)
        value = _joined([part.value.view(1) for part in walks]).sum()
        ctx.save_for_backward(ours, relation, _joined([part.slope for part in walks]), own)
        ctx.settings, ctx.places, ctx.classes = settings, tree.places, classes
        return (
            entropy * settings.task,
            value * (settings.detail * temperature**2 / batch),
            settings.correlation - agreement * (settings.correlation / classes),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        ours, relation, slope, own = ctx.saved_tensors
        settings, batch = ctx.settings, len(ours)
        task, detail, batchwise = upstream
        task = task * (settings.task / batch)
        gradient = ours * task
        gradient.addcmul_(relation, batchwise * (settings.correlation / ctx.classes))
        gradient.addcmul_(slope, detail * (-settings.detail * settings.temperature / batch))
        if ctx.places is not None:
            gradient = gradient.index_select(1, ctx.places)
        if settings.smoothing:
            gradient -= task * (settings.smoothing / ctx.classes)
        hit = (task * (settings.smoothing - 1)).expand(own.shape)
        return gradient.scatter_add_(1, own, hit), None, None, None, None


def _sharpened(softened: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Softmaxes at temperature 1 from those at T, [2 B, leaves], and the sums that they were divided by, [2 B, 1]."""
    if math.log2(temperature).is_integer() and temperature >= 1:
        sharp = softened
        for _ in range(int(math.log2(temperature))):
            sharp = sharp.square()
    else:
        sharp = softened.pow(temperature)
    total = sharp.sum(1, keepdim=True)
    return sharp / total, total


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
