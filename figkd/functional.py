"""Distillation losses as pure functions of logits.

Shapes everywhere: student and teacher logits [B, C], labels int64 [B]; the result is a scalar, computed in
float32 (float64 if an input is) whatever the logits' type and also under autocast. No gradient flows into the
teacher. Shapes are checked from metadata only, so nothing here waits for a GPU.

Logits that are not finite give a loss that is not finite (never a silent number); labels outside 0..C-1 are an
error on a CPU, and stop a GPU with PyTorch's own assertion, since looking at them would make the host wait.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from figkd.errors import FigkdError

Distance = Literal["smooth_l1", "cosine"]
_EPSILON = 1e-6
# Keeps 0 / 0 out of the correlation of a class whose probability is the same in all images.
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

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536.
    """
    check_pair(student, teacher)
    ours = torch.softmax(wide(student) / temperature, dim=1)
    theirs = torch.softmax(wide(teacher).detach() / temperature, dim=1)
    inter = 1 - _pearson(ours, theirs, dim=1).mean()
    intra = 1 - _pearson(ours, theirs, dim=0).mean()
    return (beta * inter + gamma * intra) * temperature**2


def batch_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the classes of 1 - Pearson correlation, over the batch, of the class's probability.

    The intra-class relation of DIST (arXiv 2205.10536) at temperature 1: which of the images are more of a class.
    """
    check_pair(student, teacher)
    ours, theirs = torch.softmax(wide(student), dim=1), torch.softmax(wide(teacher).detach(), dim=1)
    return 1 - cast(Tensor, _BatchCorrelation.apply(ours, theirs))


class _BatchCorrelation(torch.autograd.Function):
    """Mean over the columns of the Pearson correlation of two [B, C]; the gradient, of the first, in closed form.

    With centred columns q, p and r = q.p / (|q| |p|): dr / dq = p / (|q| |p|) - r q / |q|^2, which is centred itself.
    """

    @staticmethod
    def forward(ctx: Any, ours: Tensor, theirs: Tensor) -> Tensor:
        one, other = ours - ours.mean(0), theirs - theirs.mean(0)
        length, length_other = (torch.linalg.vector_norm(x, dim=0).clamp_min(_TINY) for x in (one, other))
        # A class that is the same in all images, as in a network whose last layer starts at 0, has no direction yet.
        inverse = (length * length_other).reciprocal() * (length > _TINY)
        correlation: Tensor = (one * other).sum(0) * inverse
        slope = torch.addcmul(one * (-correlation / length.square()), other, inverse)
        ctx.save_for_backward(slope)
        return correlation.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope * (upstream / slope.shape[1]), None


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
    return (1 - F.cosine_similarity(one, other, dim=1, eps=_EPSILON)).mean()


def standardise(logits: Tensor) -> Tensor:
    """Bring every row [B, C] to mean 0 and standard deviation 1 (population), as in arXiv 2403.01427."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + _EPSILON)


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
    one, other = one - one.mean(dim, keepdim=True), other - other.mean(dim, keepdim=True)
    return F.cosine_similarity(one, other, dim=dim, eps=_TINY)
