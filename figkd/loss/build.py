"""From a method's name and options to its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figkd.loss.method import ClassOrder
from figkd.loss.methods import named

if TYPE_CHECKING:
    from torch import nn


def build_loss(
    method: str,
    num_classes: int,
    *,
    order: ClassOrder = None,
    label_smoothing: float = 0.0,
    **options: Any,
) -> nn.Module:
    """Build the loss of a method: a module called as loss(student_logits, teacher_logits or None, labels).

    Args:
        method: a key of `figkd.loss.methods.METHODS`.
        num_classes: C.
        order: class order [C]; used by the methods that depend on it, ignored by the others.
        label_smoothing: of the cross entropy with the labels.
        options: the method's own, see `figkd.loss.methods.METHODS[method].options`.

    Raises:
        FigkdError: unknown method or option, or a value out of range.
    """
    facts = named(method)
    return facts.build(num_classes, facts.choose(options), label_smoothing=label_smoothing, order=order)
