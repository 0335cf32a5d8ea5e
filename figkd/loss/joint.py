"""Cross entropy, a detail and the correlation over the batch in one function, the gradients in closed form.

What apart are three functions of their own is here fewer calls and fewer passes over the logits. With the squared
detail the three gradients are added as they are. With the class tree's divergence student and teacher are exponentiated
once, since the softmax at temperature T gives that at T' by its (T / T')-th power, and the gradients are brought from
the tree's leaves to the classes together. The parts are those of `functional.cross_entropy`, `squared.SquaredDetail` or
`multiscale.multiscale_kl`, and `functional.batch_relation`, up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from figkd.loss.class_tree import ClassTree
from figkd.loss.functional import correlation, softened
from figkd.loss.multiscale import rows_at_a_time, walk
from figkd.loss.squared import SquaredDetail

# A uniform probability to the power T must be far from float32's smallest number.
_LEAST = 1e-30


@dataclass(frozen=True)
class Settings:
    """What the parts are made with.

    Attributes:
        task: weight of the cross entropy.
        detail: weight of the detail.
        correlation: weight of the correlation.
        mass_power: of the tree, see `figkd.loss.multiscale.multiscale_kl`.
        temperature: T of the detail.
        warmth: T of the correlation.
        smoothing: label smoothing of the cross entropy.
    """

    task: float
    detail: float
    correlation: float
    mass_power: float
    temperature: float
    warmth: float
    smoothing: float


def fits(classes: int, temperature: float, warmth: float) -> bool:
    """Whether softmaxes at 1 and at `warmth` follow from that at T without underflow that would be seen."""
    power = max(temperature, temperature / warmth)
    return power * math.log10(classes) < -math.log10(_LEAST) and warmth <= 2 * temperature


def joint(
    student: Tensor, teacher: Tensor, labels: Tensor, detail: ClassTree | SquaredDetail, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """The three parts, weights included: scalars.

    Args:
        student: [B, C], float32 or float64.
        teacher: [B, C], the same type.
        labels: int64 [B], in 0..C-1.
        detail: a tree over the classes, with weights of the bands, or the squared distance.
        settings: for a tree, `fits` holds of C and the temperatures.
    """
    function = _Tree if isinstance(detail, ClassTree) else _Squared
    return cast(tuple[Tensor, Tensor, Tensor], function.apply(student, teacher, labels, detail, settings))


class _Squared(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, labels: Tensor, detail: SquaredDetail, settings: Settings
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, classes = student.shape
        with torch.autocast(student.device.type, enabled=False):
            logs = torch.log_softmax(student, dim=1)
            agreement, relation = correlation(
                softened(student, settings.warmth), softened(teacher, settings.warmth)
            )
            value, slope = detail.product(student - teacher)
            entropy = F.nll_loss(logs, labels)
            if settings.smoothing:
                entropy = torch.lerp(entropy, -logs.mean(), settings.smoothing)
        surprise = logs.exp_()  # less the smoothed labels: the gradient of the cross entropy
        if settings.smoothing:
            surprise -= settings.smoothing / classes
        surprise.scatter_(1, labels.unsqueeze(1), settings.smoothing - 1, reduce="add")
        ctx.save_for_backward(surprise, relation, slope)
        ctx.settings = settings
        return (
            entropy * settings.task,
            value * (settings.detail / (settings.temperature**2 * batch)),
            _disagreement(agreement, classes, settings),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        surprise, relation, slope = ctx.saved_tensors
        settings, (task, detail, batchwise) = ctx.settings, upstream
        batch, classes = surprise.shape
        gradient = surprise * (task * (settings.task / batch))
        warm = settings.correlation * settings.warmth / classes
        gradient.addcmul_(relation, batchwise, value=warm)
        gradient.addcmul_(slope, detail, value=2 * settings.detail / (settings.temperature**2 * batch))
        return gradient, None, None, None, None


class _Tree(torch.autograd.Function):
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
            sharp = [_sharpened(part.ours, temperature) for part in walks]
            power = temperature / settings.warmth
            alike = settings.warmth == 1
            warm = _joined(
                [
                    one if alike else _sharpened(part.ours, power)[0]
                    for part, (one, _) in zip(walks, sharp, strict=True)
                ]
            )
            other = _joined([_sharpened(part.theirs, power)[0] for part in walks])
            log_sum = _joined(
                [
                    part.log_sum * temperature + total.log()
                    for part, (_, total) in zip(walks, sharp, strict=True)
                ]
            )
            agreement, relation = correlation(warm, other)
        own = labels.unsqueeze(1)
        entropy = (log_sum - student.gather(1, own)).mean()
        if settings.smoothing:
            entropy = torch.lerp(entropy, (log_sum.squeeze(1) - student.mean(1)).mean(), settings.smoothing)
        value = _joined([part.value.view(1) for part in walks]).sum()
        ours = warm if alike else _joined([one for one, _ in sharp])
        ctx.save_for_backward(ours, relation, _joined([part.slope for part in walks]), own)
        ctx.settings, ctx.places, ctx.classes = settings, tree.places, classes
        return (
            entropy * settings.task,
            value * (settings.detail * temperature**2 / batch),
            _disagreement(agreement, classes, settings),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        ours, relation, slope, own = ctx.saved_tensors
        settings, batch = ctx.settings, len(ours)
        task, detail, batchwise = upstream
        task = task * (settings.task / batch)
        gradient = ours * task
        gradient.addcmul_(relation, batchwise, value=settings.correlation * settings.warmth / ctx.classes)
        gradient.addcmul_(slope, detail, value=-settings.detail * settings.temperature / batch)
        if ctx.places is not None:
            gradient = gradient.index_select(1, ctx.places)
        if settings.smoothing:
            gradient -= task * (settings.smoothing / ctx.classes)
        hit = (task * (settings.smoothing - 1)).expand(own.shape)
        return gradient.scatter_add_(1, own, hit), None, None, None, None


def _disagreement(agreement: Tensor, classes: int, settings: Settings) -> Tensor:
    """The correlation's part of the loss, from the sum of the correlations."""
    weight = settings.correlation * settings.warmth**2
    return weight - agreement * (weight / classes)


def _sharpened(softmax: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """The softmax at T / power from that at T, [B, leaves], and the sums that it was divided by, [B, 1]."""
    if power == 0.5:
        sharp = softmax.sqrt()
    elif power >= 1 and math.log2(power).is_integer():
        sharp = softmax
        for _ in range(int(math.log2(power))):
            sharp = sharp.square()
    else:
        sharp = softmax.pow(power)
    total = sharp.sum(1, keepdim=True)
    return sharp / total, total


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
