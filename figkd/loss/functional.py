"""Distillation losses as pure functions of logits.

Shapes everywhere: student and teacher logits [B, C], labels int64 [B]; the result is a scalar, computed in
float32 (float64 if an input is) whatever the logits' type and also under autocast. No gradient flows into the
teacher. Shapes are checked from metadata only, so nothing here waits for a GPU.

Value and gradient are bounded for any finite logits, also for those of a network whose last layer starts at zero:
whatever divides by a spread divides by one with a floor far above rounding (`FLAT`).

Logits that are not finite give a loss that is not finite (never a silent number); labels outside 0..C-1 are an
error on a CPU, and stop a GPU with PyTorch's own assertion, since looking at them would make the host wait.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from figkd.errors import FigkdError

Distance = Literal["smooth_l1", "cosine"]
FLAT = 0.02
"""Smallest spread that a loss divides by, in units of the softmax: of logits an absolute number, of probabilities a
share of their mean. What is flatter is divided by this, so that dividing multiplies a gradient by 1 / FLAT at most. A
network's logits are wider than that from its first step on unless its last layer starts at (almost) zero."""
_EPSILON = 1e-6
# Length below which a class's probabilities are too small, in every image of the batch, to tell images apart.
_TINY = 1e-8


def cross_entropy(student: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of -log softmax(student)[label]."""
    check_labels(student, labels)
    return F.cross_entropy(wide(student), labels, label_smoothing=label_smoothing)


def kd(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 times KL(softmax(teacher / T) || softmax(student / T)), summed over classes, mean over the batch.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    check_pair(student, teacher)
    log_student = F.log_softmax(wide(student) / temperature, dim=1)
    log_teacher = F.log_softmax(wide(teacher).detach() / temperature, dim=1)
    # "batchmean" sums over classes; "mean" would divide by the class count as well.
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def dkd(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD): KL of (label, all others), and KL among the others, by their own weights.

    Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679. Their linear warm-up of the whole
    term over 20 epochs is a schedule, not part of this function.
    """
    check_pair(student, teacher)
    check_labels(student, labels)
    log_student = F.log_softmax(wide(student) / temperature, dim=1)
    log_teacher = F.log_softmax(wide(teacher).detach() / temperature, dim=1)
    target = torch.zeros_like(log_student, dtype=torch.bool).scatter(1, labels[:, None], True)
    # log P(label) and log P(not label), the latter from the others, where 1 - P would cancel.
    student_rest, teacher_rest = (log.masked_fill(target, -torch.inf) for log in (log_student, log_teacher))
    student_others, teacher_others = (log.logsumexp(1, keepdim=True) for log in (student_rest, teacher_rest))
    binary_student = torch.cat([log_student.gather(1, labels[:, None]), student_others], dim=1)
    binary_teacher = torch.cat([log_teacher.gather(1, labels[:, None]), teacher_others], dim=1)
    tckd = _kl(binary_teacher, binary_student)
    nckd = _kl(
        (log_teacher - teacher_others).masked_fill(target, -torch.inf),
        (log_student - student_others).masked_fill(target, 0.0),
    )
    return (alpha * tckd + beta * nckd) * temperature**2


def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 1.0,
) -> Tensor:
    """T^2 (beta inter + gamma intra): 1 - Pearson correlation of probabilities, over classes and over the batch.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536. Where both
    lengths are tiny it departs from its authors' code (github.com/hunto/DIST_KD), which divides by |a| |b| + 1e-8 and
    so pulls the correlation towards 0: here each length has a floor of 1e-8. To rounding the same for batches of 64
    and tens of classes, not for small batches of many classes (docs/training.md has numbers). Probabilities that vary
    by less than `FLAT` are not scaled up.
    """
    check_pair(student, teacher)
    ours = torch.softmax(wide(student) / temperature, dim=1)
    theirs = torch.softmax(wide(teacher).detach() / temperature, dim=1)
    inter = 1 - _pearson(ours, theirs, dim=1).mean()
    intra = 1 - _pearson(ours, theirs, dim=0).mean()
    return (beta * inter + gamma * intra) * temperature**2


def batch_relation(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """T^2 times the mean over the classes of 1 - Pearson correlation, over the batch, of the class's probability.

    The intra-class relation of DIST (arXiv 2205.10536): which of the images are more of a class.
    A class that varies by less than `FLAT` over the batch is not scaled up to a full correlation.
    """
    check_pair(student, teacher)
    return cast(Tensor, _BatchRelation.apply(wide(student), wide(teacher).detach(), temperature))


class _BatchRelation(torch.autograd.Function):
    """T^2 (1 - the mean over the columns of the correlation of two softmaxes [B, C]); the gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        # Autocast would run the products in half precision.
        with torch.autocast(student.device.type, enabled=False):
            total, slope = correlation(softened(student, temperature), softened(teacher, temperature))
        ctx.save_for_backward(slope)
        ctx.temperature = temperature
        return (1 - total / student.shape[1]) * temperature**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * (upstream * (ctx.temperature / slope.shape[1])), None, None


def softened(logits: Tensor, temperature: float) -> Tensor:
    """Softmax of logits / T."""
    return torch.softmax(logits if temperature == 1 else logits * (1 / temperature), dim=1)


def correlation(ours: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over the columns of the Pearson correlation of two softmaxes [B, C], and minus its gradient by ours' logits.

    With centred columns q, p and r = q.p / (|q| |p|): dr / dq = p / (|q| |p|) - r q / |q|^2, which is centred itself.
    Below the floor |q| is replaced by a constant, and the second term is not there. Overwrites `other`.
    """
    batch = len(ours)
    mean, mean_other = ours.mean(0), other.mean(0)
    one, other = ours - mean, other.sub_(mean_other)
    norm = one.square().sum(0).sqrt_()
    size_other = other.square().sum(0).sqrt_().clamp_min_(_floor(mean_other, batch))
    size = norm.clamp_min(_floor(mean, batch))
    inverse = (size * size_other).reciprocal_().mul_(size > _TINY)
    found = (one * other).sum(0).mul_(inverse)
    pull = (found / size.square()).mul_(size == norm)
    slope = one.mul_(pull).addcmul_(other, inverse, value=-1)
    # Through the softmax: q (slope - q . slope), in one pass.
    return found.sum(), torch._softmax_backward_data(slope, ours, 1, ours.dtype)


def logit_mse(student: Tensor, teacher: Tensor, *, centred: bool = False) -> Tensor:
    """Mean over batch and classes of (student - teacher)^2.

    With `centred`, each sample's mean logit is subtracted first: softmax does not see it, so that a student
    need not copy it (Kim et al., IJCAI 2021, doi 10.24963/ijcai.2021/362, compare logit MSE with KL).
    """
    check_pair(student, teacher)
    difference = wide(student) - wide(teacher).detach()
    if centred:
        difference = difference - difference.mean(dim=1, keepdim=True)
    return difference.square().mean()


def distance(one: Tensor, other: Tensor, kind: Distance) -> Tensor:
    """Mean over the batch of a distance of coefficients [B, D]: smooth L1 (sum over the coefficients) or 1 - cosine."""
    if kind == "smooth_l1":
        return F.smooth_l1_loss(one, other, reduction="sum") / len(one)
    flat = FLAT * math.sqrt(one.shape[1])
    return (1 - F.cosine_similarity(one, other, dim=1, eps=flat)).mean()


def standardise(logits: Tensor) -> Tensor:
    """Bring every row [B, C] to mean 0 and standard deviation 1, one flatter than `FLAT` to less.

    The population's deviation, as the formula of arXiv 2403.01427 has it. Its authors' code
    (github.com/sunshangquan/logit-standardization-KD) takes the sample's, which is larger by sqrt(C / (C - 1)), and
    scales up rows of any spread above 1e-7.
    """
    centred = logits - logits.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1, keepdim=True).clamp_min(FLAT**2).sqrt()
    return centred / (deviation + _EPSILON)


def wide(logits: Tensor) -> Tensor:
    """Float32, or float64 as it is."""
    return logits if logits.dtype == torch.float64 else logits.to(torch.float32)


def check_pair(student: Tensor, teacher: Tensor) -> None:
    """Raise FigkdError unless both are [B, C]."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise FigkdError(
            f"student logits {tuple(student.shape)} and teacher logits {tuple(teacher.shape)} do not match",
            "both must be [batch, classes]",
        )


def check_labels(student: Tensor, labels: Tensor) -> None:
    """Raise FigkdError unless logits are [B, C] and labels integers [B], on a CPU also in 0..C-1."""
    if student.ndim != 2 or labels.shape != student.shape[:1] or labels.dtype != torch.int64:
        raise FigkdError(
            f"logits {tuple(student.shape)} and labels {tuple(labels.shape)} {labels.dtype} do not match",
            "logits must be [batch, classes], labels int64 [batch]",
        )
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or not len(labels):
        return
    low, high = (int(bound) for bound in torch.aminmax(labels))
    if low < 0 or high >= student.shape[1]:
        raise FigkdError(
            f"labels from {low} to {high} for {student.shape[1]} classes", "0 <= label < classes"
        )


def _kl(log_teacher: Tensor, log_student: Tensor) -> Tensor:
    probability = log_teacher.exp()
    # xlogy's convention: a probability of 0 adds nothing, whatever the logarithms are.
    terms = torch.where(probability > 0, probability * (log_teacher - log_student), 0.0)
    return terms.sum(dim=1).mean()


def _pearson(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Pearson correlation along `dim` of probabilities, with the floor of `_floor` under either norm."""
    directions = []
    for x in (one, other):
        mean = x.mean(dim, keepdim=True)
        centred = x - mean
        norm = torch.linalg.vector_norm(centred, dim=dim, keepdim=True)
        directions.append(centred / norm.clamp_min(_floor(mean.detach(), x.shape[dim])))
    correlation: Tensor = (directions[0] * directions[1]).sum(dim)
    return correlation


def _floor(mean: Tensor, count: int) -> Tensor:
    """Smallest norm of the deviations of `count` probabilities from their mean that a correlation divides by.

    10^5 times above float32's rounding of the mean, so that rounding cannot pass for a direction.
    """
    floor: Tensor = mean * (FLAT * math.sqrt(count))
    return floor.clamp_min_(_TINY)
