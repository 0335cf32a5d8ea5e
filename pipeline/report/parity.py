"""The parity checks of a result, one row for each kind of input and batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ParityRow:
    """Checks of one kind of input at one batch size: the worst of each figure."""

    what: str
    batch: int
    n: int
    """Images."""
    max_abs: float
    """Largest |ONNX - torch| of a logit."""
    allowed: float | None
    """Tightest limit of that."""
    cosine: float | None
    """Smallest cosine of two logit vectors."""
    agreement: float | None
    """Images with the same top-1, percent."""
    ok: bool


def summarise(cases: Sequence[Mapping[str, Any]]) -> list[ParityRow]:
    """Merge a result's parity cases by their `what` (or input number) and batch size.

    Args:
        cases: as `export.onnx.check_parity` makes them, but with `top1_agreement` in percent.
    """
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for case in cases:
        what = str(case.get("what", f"input {case.get('input', '')}".strip()))
        groups.setdefault((what, int(case.get("batch", 1))), []).append(case)
    return [_merge(what, batch, members) for (what, batch), members in groups.items()]


def _merge(what: str, batch: int, cases: Sequence[Mapping[str, Any]]) -> ParityRow:
    n = sum(int(case["n"]) for case in cases)
    allowed = [float(case["allowed"]) for case in cases if case.get("allowed") is not None]
    cosines = [float(case["cosine"]) for case in cases if case.get("cosine") is not None]
    agreeing = [
        float(c["top1_agreement"]) * int(c["n"]) for c in cases if c.get("top1_agreement") is not None
    ]
    return ParityRow(
        what=what,
        batch=batch,
        n=n,
        max_abs=max(float(case["max_abs"]) for case in cases),
        allowed=min(allowed, default=None),
        cosine=min(cosines, default=None),
        agreement=sum(agreeing) / n if len(agreeing) == len(cases) and n else None,
        ok=all(bool(case.get("ok", True)) for case in cases),
    )
