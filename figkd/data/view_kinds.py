"""Which kinds of views there are, and how many each has, readable without importing torch."""

from __future__ import annotations

from typing import Literal

Kind = Literal["none", "shift", "shift_flip", "random_resized_crop"]
KINDS: tuple[Kind, ...] = ("none", "shift", "shift_flip", "random_resized_crop")


def view_total(kind: Kind, pad: int) -> int | None:
    """Number of different views of a kind with shifts of -pad..pad pixels; None where there is no end."""
    if kind == "random_resized_crop":
        return None
    if kind == "none":
        return 1
    return (2 * pad + 1) ** 2 * (2 if kind == "shift_flip" else 1)


def view_count(kind: Kind, pad: int, count: int | None, epochs: int) -> int:
    """Number of views to use of each sample: `count` or, if that is None, one an epoch; never more than exist."""
    limits = (max(epochs, 1) if count is None else count, view_total(kind, pad))
    return min(limit for limit in limits if limit is not None)
