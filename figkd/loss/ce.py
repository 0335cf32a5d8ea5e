"""Cross entropy with the labels: what every other method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from figkd.loss.method import ClassOrder, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CE:
    """No options: `distill.label_smoothing` is every method's."""


def _build(num_classes: int, options: CE, *, label_smoothing: float, order: ClassOrder) -> nn.Module:
    from figkd.loss.parts import CrossEntropyLoss

    return CrossEntropyLoss(num_classes, label_smoothing=label_smoothing)


METHOD = Method("ce", "nothing: the labels alone", "", CE, _build, needs_teacher=False)
