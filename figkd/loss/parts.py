"""Losses as weighted parts: the labels' cross entropy ("task"), and what is learnt from the teacher.

Each is called as loss(student [B, C], teacher [B, C] or None, labels [B]) for a scalar, and has `parts` for what the
scalar is the sum of.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from figkd.errors import FigkdError
from figkd.loss import functional

Term = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of student [B, C], teacher [B, C] without gradient, both float32 or float64, and labels [B]: a scalar."""
Parts = dict[str, Tensor]
"""Scalars by name, weights included, in the order in which they are added; a part of weight 0 is not there."""


@runtime_checkable
class InParts(Protocol):
    """A loss that says what it is the sum of."""

    def parts(self, student: Tensor, teacher: Tensor | None, labels: Tensor, /) -> Parts:
        """What the loss of the same arguments is the `total` of."""
        ...


class CrossEntropyLoss(nn.Module):
    """`cross_entropy` behind the uniform interface; the teacher is ignored and may be None."""

    def __init__(self, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = checked_classes(num_classes), label_smoothing

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C] and labels [B]."""
        return total(self.parts(student, teacher, labels))

    def parts(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Parts:
        """The one part, `task`."""
        _check_count(student, self.num_classes)
        return task(student, labels, 1.0, self.label_smoothing)


class DistillationLoss(nn.Module):
    """ce_weight * cross_entropy + weight * term(student, teacher, labels).

    Args:
        num_classes: C.
        term: the part that uses the teacher.
        weight: of the term.
        ce_weight: of the cross entropy with the labels.
        label_smoothing: of the cross entropy.
    """

    def __init__(
        self, num_classes: int, term: Term, *, weight: float, ce_weight: float, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.num_classes, self.label_smoothing = checked_classes(num_classes), label_smoothing
        check_weights(weight, ce_weight)
        self.weight, self.ce_weight, self.term = weight, ce_weight, term

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C], teacher [B, C] and labels [B]."""
        return total(self.parts(student, teacher, labels))

    def parts(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Parts:
        """`task` and `distillation`."""
        student, teacher = pair(student, teacher, self.num_classes)
        parts = task(student, labels, self.ce_weight, self.label_smoothing)
        if self.weight:
            parts["distillation"] = self.weight * self.term(student, teacher, labels)
        return parts


def total(parts: Parts) -> Tensor:
    """The sum of a loss's parts, of which there is at least one."""
    return functools.reduce(operator.add, parts.values())


def task(student: Tensor, labels: Tensor, weight: float, label_smoothing: float) -> Parts:
    """The labels' cross entropy as the first part; none if its weight is 0, with the labels checked all the same."""
    if weight == 0:
        functional.check_labels(student, labels)
        return {}
    value = functional.cross_entropy(student, labels, label_smoothing=label_smoothing)
    return {"task": value if weight == 1 else weight * value}


def pair(student: Tensor, teacher: Tensor | None, num_classes: int) -> tuple[Tensor, Tensor]:
    """Logits of student and teacher [B, C] as float32 or float64, cast once; no gradient flows into the teacher.

    Raises:
        FigkdError: other shapes, or no teacher.
    """
    _check_count(student, num_classes)
    if teacher is None:
        raise FigkdError("this method needs the teacher's logits", "pass them, or choose method 'ce'")
    functional.check_pair(student, teacher)
    return functional.wide(student), functional.wide(teacher).detach()


def checked_classes(num_classes: int) -> int:
    """`num_classes`; raises FigkdError for fewer than two."""
    if num_classes < 2:
        raise FigkdError(f"a loss over {num_classes} classes", "at least 2 are needed")
    return num_classes


def check_weights(weight: float, ce_weight: float) -> None:
    """Raise FigkdError if there is nothing to learn."""
    if weight == ce_weight == 0:
        raise FigkdError(f"weight {weight} and ce_weight {ce_weight}", "both >= 0 and not both 0")


def _check_count(student: Tensor, num_classes: int) -> None:
    if student.ndim != 2 or student.shape[1] != num_classes:
        raise FigkdError(f"logits of shape {tuple(student.shape)}, but the loss has {num_classes} classes")
