"""DIST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from figkd.loss.method import Method, Temperature, Weight, one_term, option

if TYPE_CHECKING:
    from torch import Tensor

    from figkd.loss.parts import Term


@dataclass(frozen=True)
class DIST:
    """Options of `distill.method: dist` (arXiv 2205.10536)."""

    temperature: Temperature = option(1.0, "Softening temperature.")
    beta: Weight = option(2.0, "Weight of the correlation over classes.")
    gamma: Weight = option(2.0, "Weight of the correlation over the batch.")
    weight: Weight = option(1.0, "Weight of both together.")
    ce_weight: Weight = option(1.0, "Weight of the labels' cross entropy.")


def _term(options: DIST) -> Term:
    from figkd.loss import functional

    def term(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return functional.dist(
            student, teacher, beta=options.beta, gamma=options.gamma, temperature=options.temperature
        )

    return term


METHOD = Method(
    "dist",
    "correlation of probabilities over classes and over the batch",
    "Huang et al. 2022, arXiv 2205.10536",
    DIST,
    one_term(_term),
)
