"""KD, and KD of standardised logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from figkd.loss.method import Method, Temperature, Weight, of_standardised, one_term, option

if TYPE_CHECKING:
    from torch import Tensor

    from figkd.loss.parts import Term


@dataclass(frozen=True)
class KD:
    """Options of `distill.method: kd` (Hinton et al. 2015)."""

    temperature: Temperature = option(4.0, "Softening temperature.")
    weight: Weight = option(0.9, "Weight of T^2 KL(teacher || student).")
    ce_weight: Weight = option(0.1, "Weight of the labels' cross entropy.")


@dataclass(frozen=True)
class StandardisedKD(KD):
    """Options of `distill.method: kd_ls`, KD of standardised logits (arXiv 2403.01427)."""

    temperature: Temperature = option(2.0, "Softening temperature.")
    weight: Weight = option(9.0, "Weight of T^2 KL(teacher || student).")


def _term(options: KD) -> Term:
    from figkd.loss import functional

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.kd(student, teacher, temperature=options.temperature)

    return term


METHOD = Method(
    "kd",
    "KL divergence of the softened probabilities",
    "Hinton et al. 2015, arXiv 1503.02531",
    KD,
    one_term(_term),
)
STANDARDISED = Method(
    "kd_ls",
    "KD of standardised logits",
    "Sun et al. 2024, arXiv 2403.01427",
    StandardisedKD,
    one_term(of_standardised(_term)),
)
