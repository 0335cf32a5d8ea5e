"""The loss of FiGKD."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from figkd.loss import functional
from figkd.loss.class_tree import ClassTree
from figkd.loss.distance import DetailDistance
from figkd.loss.figkd_options import GROWTH_FROM, FiGKD
from figkd.loss.joint import Settings, fits, joint
from figkd.loss.method import ClassOrder, choose
from figkd.loss.parts import Parts, check_weights, checked_classes, pair, task, total


class FiGKDLoss(nn.Module):
    """Cross entropy, the distance of the high-frequency detail along the class axis, and a correlation over the batch.

    ce_weight * cross_entropy + weight * detail + batch_weight * (C / 128)^batch_growth * correlation. That only the
    detail is transferred is FiGKD's idea (arXiv 2505.11897). Distance, levels, weights and temperatures are this
    library's choices: no formula is published. The correlation is `functional.batch_relation`, DIST's: what the detail,
    which runs along the classes of one image, cannot see.

    Args:
        num_classes: C, 2 to 100,000 and more.
        order: class order [C] (see `figkd.loss.order`): position i of the transformed axis holds class order[i].
            None means the classes as given; "random" draws a new one at every call (a control, not a recipe).
        label_smoothing: of the cross entropy.
        options: those of `figkd.loss.figkd_options.FiGKD` by name, but for `order` and `hierarchy`, which are how the
            pipeline makes the class order.

    Raises:
        FigkdError: an unknown option, or one out of range; at call time, logits or labels that do not fit.
    """

    def __init__(
        self, num_classes: int, *, order: ClassOrder = None, label_smoothing: float = 0.0, **options: Any
    ) -> None:
        super().__init__()
        chosen = choose(FiGKD, options, "FiGKDLoss")
        check_weights(chosen.weight, chosen.ce_weight)
        self.num_classes, self.label_smoothing = checked_classes(num_classes), label_smoothing
        self.weight, self.ce_weight = chosen.weight, chosen.ce_weight
        self.batch_weight = chosen.batch_weight * (num_classes / GROWTH_FROM) ** chosen.batch_growth
        self.batch_temperature = chosen.batch_temperature
        self.detail = DetailDistance(num_classes, chosen, order)
        self.joint = self._joint(chosen)

    def _joint(self, options: FiGKD) -> Settings | None:
        """How to make all parts at once, if there is a way."""
        weights = (self.ce_weight, self.weight, self.batch_weight)
        temperatures = (options.temperature, options.batch_temperature)
        form = self.detail.closed_form
        if form is None or not all(weights):
            return None
        if isinstance(form, ClassTree) and not fits(self.num_classes, *temperatures):
            return None
        return Settings(*weights, options.mass_power, *temperatures, self.label_smoothing)

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
        """Scalar loss of student [B, C], teacher [B, C] and labels [B]."""
        return total(self.parts(student, teacher, labels))

    def parts(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Parts:
        """`task`, `detail` and `correlation`."""
        ours, theirs = pair(student, teacher, self.num_classes)
        if self.joint is not None and (form := self.detail.closed_form) is not None:
            functional.check_labels(ours, labels)
            values = joint(ours, theirs, labels, form, self.joint)
            return dict(zip(("task", "detail", "correlation"), values, strict=True))
        parts = task(ours, labels, self.ce_weight, self.label_smoothing)
        if self.weight:
            parts["detail"] = self.weight * self.detail(ours, theirs)
        if self.batch_weight:
            parts["correlation"] = self.batch_weight * functional.batch_relation(
                ours, theirs, temperature=self.batch_temperature
            )
        return parts
