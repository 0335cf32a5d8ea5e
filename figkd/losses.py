"""Distillation losses: pure functions of logits, and thin modules around them.

Shapes everywhere: student and teacher logits [B, C], labels int64 [B]; the result is a scalar, computed in
float32 (float64 if an input is) whatever the logits' type and also under autocast. No gradient flows into the
teacher. Shapes are checked from metadata only, so nothing here waits for a GPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figkd import methods
from figkd.errors import FigkdError
from figkd.methods import needs_teacher as needs_teacher
from figkd.order import identity, validate_order
from figkd.wavelet import Level, detail_matrix

_EPSILON = 1e-6


def cross_entropy(student: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of -log softmax(student)[label]."""
    _check_labels(student, labels)
    return F.cross_entropy(_wide(student), labels, label_smoothing=label_smoothing)


def kd(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 times KL(softmax(teacher / T) || softmax(student / T)), summed over classes, mean over the batch.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
    """
    _check_pair(student, teacher)
    log_student = F.log_softmax(_wide(student) / temperature, dim=1)
    log_teacher = F.log_softmax(_wide(teacher).detach() / temperature, dim=1)
    # "batchmean" sums over classes; "mean" would divide by the class count as well.
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def logit_mse(student: Tensor, teacher: Tensor, *, centred: bool = False) -> Tensor:
    """Mean over batch and classes of (student - teacher)^2.

    With `centred`, each sample's mean logit is subtracted first: softmax does not see it, so that a student
    need not copy it (Kim et al., IJCAI 2021, doi 10.24963/ijcai.2021/362, compare logit MSE with KL).
    """
    _check_pair(student, teacher)
    difference = _wide(student) - _wide(teacher).detach()
    if centred:
        difference = difference - difference.mean(dim=1, keepdim=True)
    return difference.square().mean()


def figkd(
    student: Tensor,
    teacher: Tensor,
    matrix: Tensor,
    *,
    temperature: float = 1.0,
    standardise: bool = False,
) -> Tensor:
    """Mean over batch and coefficients of the squared difference of the logits' wavelet details.

    The idea (only high-frequency detail along the class axis is transferred) is FiGKD, arXiv 2505.11897. The
    distance, the normalisation and the temperature are this library's choices: no formula is published.

    Args:
        student: [B, C].
        teacher: [B, C].
        matrix: [C, D], from `figkd.wavelet.detail_matrix`, its rows in the order of the logits.
        temperature: both logits are divided by it; without `standardise` this scales the loss by 1 / T^2.
        standardise: first bring every sample's logits to mean 0 and standard deviation 1 (over classes,
            population), as in arXiv 2403.01427.
    """
    _check_pair(student, teacher)
    if matrix.ndim != 2 or matrix.shape[0] != student.shape[1]:
        raise FigkdError(
            f"a detail matrix of shape {tuple(matrix.shape)} for {student.shape[1]} classes", "it is [C, D]"
        )
    one, other = _wide(student), _wide(teacher).detach()
    if standardise:
        one, other = _z_score(one), _z_score(other)
    difference = (one - other) / temperature
    # Autocast would run this product in half precision.
    with torch.autocast(student.device.type, enabled=False):
        return (difference @ matrix.to(difference.dtype)).square().mean()


class CrossEntropyLoss(nn.Module):
    """`cross_entropy` behind the uniform interface; the teacher is ignored and may be None."""

    def __init__(self, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = _classes(num_classes), label_smoothing

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C] and labels [B]."""
        _check_count(student, self.num_classes)
        return cross_entropy(student, labels, label_smoothing=self.label_smoothing)


class KDLoss(nn.Module):
    """ce_weight * cross_entropy + weight * kd."""

    def __init__(
        self,
        num_classes: int,
        *,
        weight: float = 0.9,
        ce_weight: float = 0.1,
        temperature: float = 4.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = _classes(num_classes), label_smoothing
        self.weight, self.ce_weight = _weights(weight, ce_weight)
        self.temperature = _positive("temperature", temperature)

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C], teacher [B, C] and labels [B]."""
        _check_count(student, self.num_classes)
        hard = cross_entropy(student, labels, label_smoothing=self.label_smoothing)
        soft = kd(student, _given(teacher), temperature=self.temperature)
        return self.ce_weight * hard + self.weight * soft


class LogitMSELoss(nn.Module):
    """ce_weight * cross_entropy + weight * logit_mse."""

    def __init__(
        self,
        num_classes: int,
        *,
        centred: bool = False,
        weight: float = 1.0,
        ce_weight: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = _classes(num_classes), label_smoothing
        self.weight, self.ce_weight = _weights(weight, ce_weight)
        self.centred = centred

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C], teacher [B, C] and labels [B]."""
        _check_count(student, self.num_classes)
        hard = cross_entropy(student, labels, label_smoothing=self.label_smoothing)
        return self.ce_weight * hard + self.weight * logit_mse(student, _given(teacher), centred=self.centred)


class FiGKDLoss(nn.Module):
    """ce_weight * cross_entropy + weight * figkd.

    Args:
        num_classes: C.
        wavelet: any discrete wavelet of PyWavelets.
        level: number of levels, or "max".
        mode: PyWavelets' boundary mode; matters for odd class counts and longer filters.
        band_weights: weights of single bands, see `figkd.wavelet.detail_matrix`.
        order: class order [C] (see `figkd.order`): position i of the transformed axis holds class order[i].
            None means the classes as given.
        weight: weight of the detail loss.
        ce_weight: weight of the cross entropy.
        temperature: see `figkd`.
        standardise: see `figkd`.
        label_smoothing: of the cross entropy.

    Raises:
        FigkdError: an argument out of range; at call time, logits of another class count.
    """

    matrix: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        wavelet: str = "haar",
        level: Level = 1,
        mode: str = "symmetric",
        band_weights: Mapping[str, float] | None = None,
        order: npt.ArrayLike | None = None,
        weight: float = 0.3,
        ce_weight: float = 1.0,
        temperature: float = 1.0,
        standardise: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = _classes(num_classes), label_smoothing
        self.weight, self.ce_weight = _weights(weight, ce_weight)
        self.temperature = _positive("temperature", temperature)
        self.standardise = standardise
        positions = identity(num_classes) if order is None else validate_order(order, num_classes)
        ordered = detail_matrix(num_classes, wavelet, level, mode, band_weights)
        # logits[:, order] @ W equals logits @ W' with row order[i] of W' = row i of W: no gather per step.
        rows = torch.empty(ordered.shape, dtype=torch.float64)
        rows[torch.from_numpy(positions)] = torch.tensor(ordered)
        self.register_buffer("matrix", rows.to(torch.float32), persistent=False)

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C], teacher [B, C] and labels [B]."""
        _check_count(student, self.num_classes)
        hard = cross_entropy(student, labels, label_smoothing=self.label_smoothing)
        detail = figkd(
            student,
            _given(teacher),
            self.matrix,
            temperature=self.temperature,
            standardise=self.standardise,
        )
        return self.ce_weight * hard + self.weight * detail


def _centred(num_classes: int, **options: Any) -> LogitMSELoss:
    return LogitMSELoss(num_classes, centred=True, **options)


METHODS: dict[str, Callable[..., nn.Module]] = {
    "ce": CrossEntropyLoss,
    "kd": KDLoss,
    "logit_mse": LogitMSELoss,
    "centred_logit_mse": _centred,
    "figkd": FiGKDLoss,
}
"""Builders by method name; `figkd.methods.METHODS` says what each needs and takes."""


def build_loss(
    method: str, num_classes: int, *, order: npt.ArrayLike | None = None, **options: Any
) -> nn.Module:
    """Build the loss of a method: a module called as loss(student_logits, teacher_logits or None, labels).

    Args:
        method: a key of `METHODS`.
        num_classes: C.
        order: class order [C]; used by the methods that depend on it, ignored by the others.
        options: the method's own, see `figkd.methods.METHODS[method].options`.

    Raises:
        FigkdError: unknown method or option, or a value out of range.
    """
    if method not in METHODS:
        raise FigkdError(f"unknown distillation method {method!r}", f"one of {', '.join(METHODS)}")
    facts = methods.METHODS[method]
    unknown = sorted(set(options) - set(facts.options))
    if unknown:
        raise FigkdError(
            f"method {method!r} has no option {', '.join(map(repr, unknown))}",
            f"its options are {', '.join(facts.options)}",
        )
    if facts.uses_order:
        options["order"] = order
    return METHODS[method](num_classes, **options)


def default_options(method: str) -> dict[str, Any]:
    """Options of a method with their defaults, read from the builder's signature (for documentation)."""
    builder = LogitMSELoss if method == "centred_logit_mse" else METHODS[method]
    return {
        name: parameter.default
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("order", "centred")
    }


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.to(torch.float32)


def _z_score(logits: Tensor) -> Tensor:
    centred = logits - logits.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + _EPSILON)


def _check_pair(student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or student.shape != teacher.shape:
        raise FigkdError(
            f"student logits {tuple(student.shape)} and teacher logits {tuple(teacher.shape)} do not match",
            "both must be [batch, classes]",
        )


def _check_labels(student: Tensor, labels: Tensor) -> None:
    if student.ndim != 2 or labels.shape != student.shape[:1]:
        raise FigkdError(
            f"logits {tuple(student.shape)} and labels {tuple(labels.shape)} do not match",
            "logits must be [batch, classes], labels [batch]",
        )


def _check_count(student: Tensor, num_classes: int) -> None:
    if student.ndim != 2 or student.shape[1] != num_classes:
        raise FigkdError(f"logits of shape {tuple(student.shape)}, but the loss has {num_classes} classes")


def _given(teacher: Tensor | None) -> Tensor:
    if teacher is None:
        raise FigkdError("this method needs the teacher's logits", "pass them, or choose method 'ce'")
    return teacher


def _classes(num_classes: int) -> int:
    if num_classes < 2:
        raise FigkdError(f"a loss over {num_classes} classes", "at least 2 are needed")
    return num_classes


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise FigkdError(f"{name} is {value}", "it must be positive")
    return value


def _weights(weight: float, ce_weight: float) -> tuple[float, float]:
    if not (weight >= 0 and ce_weight >= 0 and weight + ce_weight > 0):
        raise FigkdError(f"weight {weight} and ce_weight {ce_weight}", "both >= 0 and not both 0")
    return weight, ce_weight
