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

METHODS: dict[str, Method] = {
    "ce": Method("cross entropy with the labels, no teacher", False, False, _CE),
    "kd": Method(
        "Hinton et al. 2015: KL divergence of the softened probabilities",
        True,
        False,
        {"weight": 0.9, "ce_weight": 0.1, "temperature": 4.0, **_CE},
    ),
    "logit_mse": Method(
        "cross entropy plus the mean squared difference of the logits",
        True,
        False,
        {"weight": 1.0, "ce_weight": 1.0, **_CE},
    ),
    "centred_logit_mse": Method(
        "the same after each sample's mean logit is subtracted",
        True,
        False,
        {"weight": 1.0, "ce_weight": 1.0, **_CE},
    ),
    "figkd": Method(
        "cross entropy plus the squared difference of the logits' wavelet details along the class axis",
        True,
        True,
        {
            "wavelet": "haar",
            "level": 1,
            "mode": "symmetric",
            "band_weights": None,
            "weight": 0.3,
            "ce_weight": 1.0,
            "temperature": 1.0,
            "standardise": False,
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
