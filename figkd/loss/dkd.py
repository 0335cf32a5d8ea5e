"""DKD, and DKD of standardised logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from figkd.loss.method import Method, Temperature, Weight, of_standardised, one_term, option

if TYPE_CHECKING:
    from torch import Tensor

    from figkd.loss.parts import Term


@dataclass(frozen=True)
class DKD:
    """Options of `distill.method: dkd` (arXiv 2203.08679)."""

    temperature: Temperature = option(4.0, "Softening temperature.")
    alpha: Weight = option(1.0, "Weight of the label against all other classes.")
    beta: Weight = option(8.0, "Weight of the other classes among themselves.")
    weight: Weight = option(1.0, "Weight of both together.")
    ce_weight: Weight = option(1.0, "Weight of the labels' cross entropy.")


@dataclass(frozen=True)
class StandardisedDKD(DKD):
    """Options of `distill.method: dkd_ls`, DKD of standardised logits (arXiv 2403.01427)."""

    temperature: Temperature = option(2.0, "Softening temperature.")
    weight: Weight = option(9.0, "Weight of both together.")


def _term(options: DKD) -> Term:
    from figkd.loss import functional

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.dkd(
            student,
            teacher,
            labels,
            alpha=options.alpha,
            beta=options.beta,
            temperature=options.temperature,
        )

    return term


METHOD = Method(
    "dkd",
    "decoupled KD: the label against the others, and the others among themselves, by their own weights",
    "Zhao et al. 2022, arXiv 2203.08679",
    DKD,
    one_term(_term),
)
STANDARDISED = Method(
    "dkd_ls",
    "DKD of standardised logits",
    "Sun et al. 2024, arXiv 2403.01427",
    StandardisedDKD,
    one_term(of_standardised(_term)),
)
