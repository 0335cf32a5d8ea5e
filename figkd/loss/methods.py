"""The table of distillation methods, readable without torch: a new one is a file beside this and an entry here."""

from __future__ import annotations

from figkd.errors import FigkdError
from figkd.loss import ce, dist, dkd, figkd_method, kd, logit_mse
from figkd.loss.method import Method

_ALL = (
    figkd_method.METHOD,
    ce.METHOD,
    kd.METHOD,
    kd.STANDARDISED,
    dkd.METHOD,
    dkd.STANDARDISED,
    dist.METHOD,
    logit_mse.METHOD,
    logit_mse.CENTRED,
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}
"""Every method by name."""
BASELINES: tuple[str, ...] = tuple(name for name in METHODS if name != figkd_method.METHOD.name)
"""What FiGKD is compared with."""


def needs_teacher(method: str) -> bool:
    """Whether the method uses the teacher's logits; raises FigkdError for an unknown method."""
    return named(method).needs_teacher


def named(method: str) -> Method:
    """The method of a name; raises FigkdError for an unknown one."""
    if method not in METHODS:
        raise FigkdError(f"unknown distillation method {method!r}", f"one of {', '.join(METHODS)}")
    return METHODS[method]
