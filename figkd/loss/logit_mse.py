"""Mean squared difference of the logits, as they are or centred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from figkd.loss.method import Method, Weight, one_term, option

if TYPE_CHECKING:
    from torch import Tensor

    from figkd.loss.parts import Term


@dataclass(frozen=True)
class LogitMSE:
    """Options of `distill.method: logit_mse` and `centred_logit_mse`."""

    weight: Weight = option(1.0, "Weight of the squared error.")
    ce_weight: Weight = option(1.0, "Weight of the labels' cross entropy.")


def _term(options: LogitMSE) -> Term:
    from figkd.loss import functional

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.logit_mse(student, teacher)

    return term


def _centred_term(options: LogitMSE) -> Term:
    from figkd.loss import functional

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.logit_mse(student, teacher, centred=True)

    return term


METHOD = Method("logit_mse", "mean squared difference of the logits", "", LogitMSE, one_term(_term))
CENTRED = Method(
    "centred_logit_mse",
    "the same after each sample's mean logit is subtracted",
    "Kim et al., IJCAI 2021",
    LogitMSE,
    one_term(_centred_term),
    section="logit_mse",
)
