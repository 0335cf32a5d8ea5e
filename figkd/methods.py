"""What a distillation method needs, readable without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from figkd.errors import FigkdError


@dataclass(frozen=True)
class Method:
    """Facts about a method.

    Attributes:
        summary: one line.
        needs_teacher: whether the loss uses the teacher's logits.
        uses_order: whether the class order changes the loss.
        options: keyword arguments of the loss with their defaults.
    """

    summary: str
    needs_teacher: bool
    uses_order: bool
    options: Mapping[str, Any]


_CE = {"label_smoothing": 0.0}
_KD = {"weight": 0.9, "ce_weight": 0.1, "temperature": 4.0, **_CE}
_DKD = {"weight": 1.0, "ce_weight": 1.0, "alpha": 1.0, "beta": 8.0, "temperature": 4.0, **_CE}
_MSE = {"weight": 1.0, "ce_weight": 1.0, **_CE}
_STANDARDISED = {"weight": 9.0, "temperature": 2.0}

METHODS: dict[str, Method] = {
    "ce": Method("cross entropy with the labels, no teacher", False, False, _CE),
    "kd": Method("Hinton et al. 2015: KL divergence of the softened probabilities", True, False, _KD),
    "kd_ls": Method(
        "KD of standardised logits (Sun et al. 2024, arXiv 2403.01427)", True, False, {**_KD, **_STANDARDISED}
    ),
    "dkd": Method("decoupled KD (Zhao et al. 2022, arXiv 2203.08679)", True, False, _DKD),
    "dkd_ls": Method("DKD of standardised logits (arXiv 2403.01427)", True, False, {**_DKD, **_STANDARDISED}),
    "dist": Method(
        "DIST (Huang et al. 2022, arXiv 2205.10536): correlation of probabilities over classes and over the batch",
        True,
        False,
        {"weight": 1.0, "ce_weight": 1.0, "beta": 2.0, "gamma": 2.0, "temperature": 1.0, **_CE},
    ),
    "logit_mse": Method("cross entropy plus the mean squared difference of the logits", True, False, _MSE),
    "centred_logit_mse": Method(
        "the same after each sample's mean logit is subtracted (Kim et al., IJCAI 2021)", True, False, _MSE
    ),
    "figkd": Method(
        "cross entropy plus the distance of the high-frequency detail along the class axis",
        True,
        True,
        {
            "distance": "squared",
            "wavelet": "haar",
            "level": "fine",
            "mode": "symmetric",
            "band_decay": 0.5,
            "band_weights": None,
            "domain": "logits",
            "mass_power": 0.5,
            "temperature": 1.0,
            "weight": 0.02,
            "batch_weight": 1.0,
            "ce_weight": 1.0,
            **_CE,
        },
    ),
}
"""Every method by name."""


def needs_teacher(method: str) -> bool:
    """Whether the method uses the teacher's logits; raises FigkdError for an unknown method."""
    if method not in METHODS:
        raise FigkdError(f"unknown distillation method {method!r}", f"one of {', '.join(METHODS)}")
    return METHODS[method].needs_teacher
