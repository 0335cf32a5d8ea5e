"""FiGKD in the table of methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from figkd.loss.figkd_options import FiGKD
from figkd.loss.method import ClassOrder, Method

if TYPE_CHECKING:
    from torch import nn


def _build(num_classes: int, options: FiGKD, *, label_smoothing: float, order: ClassOrder) -> nn.Module:
    from figkd.loss.figkd_loss import FiGKDLoss

    chosen = {name: getattr(options, name) for name in METHOD.defaults}
    return FiGKDLoss(num_classes, order=order, label_smoothing=label_smoothing, **chosen)


METHOD = Method(
    "figkd",
    "distance of the high-frequency detail along the class axis, and DIST's correlation over the batch",
    "arXiv 2505.11897",
    FiGKD,
    _build,
    uses_order=True,
)
