"""Whether a device's answers are distributed as where its bundle was made: two tests of homogeneity on counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.runtime.counts import OutputCounts

ALARM = 1 / 30
"""Share of looks that are false alarms where nothing changed and images are independent: one a month, if daily."""
ENOUGH = 200
"""Images that are needed on each side."""
_EXPECTED = 5.0


@dataclass(frozen=True)
class Change:
    """One histogram against its reference."""

    p: float
    """Of Pearson's chi-squared test of homogeneity."""
    moved: float
    """Total variation distance: the share of images that would have to move to another bin."""

    @property
    def is_alarm(self) -> bool:
        """Two histograms are looked at: each gets half of the false alarms."""
        return self.p < ALARM / 2


@dataclass(frozen=True)
class Drift:
    """Of a device; None where there are too few images."""

    images: int
    confidence: Change | None
    classes: Change | None

    @property
    def is_alarm(self) -> bool:
        """Whether the answers differ from the reference's."""
        return any(one is not None and one.is_alarm for one in (self.confidence, self.classes))


def drift(reference: OutputCounts, counted: OutputCounts) -> Drift:
    """Compare what a device counted with the reference of its bundle. Pure."""
    same = len(reference.classes) == len(counted.classes)
    if not same or min(reference.images, counted.images) < ENOUGH:
        return Drift(counted.images, None, None)
    return Drift(
        counted.images,
        _change(reference.confidence, counted.confidence),
        _change(reference.classes, counted.classes),
    )


def _change(reference: Sequence[int], counted: Sequence[int]) -> Change:
    from scipy.stats import chi2_contingency

    table = np.array([reference, counted], np.float64)
    shares = table / table.sum(axis=1, keepdims=True)
    moved = float(np.abs(shares[0] - shares[1]).sum() / 2)
    pooled = _pooled(table)
    p = float(chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else 1.0
    return Change(p, moved)


def _pooled(
    table: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Neighbouring bins joined until each expects `_EXPECTED` images on either side: the test's condition (Cochran)."""
    smallest = table.sum(axis=1).min() / table.sum()
    columns: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    for column in table.T:
        if columns and columns[-1].sum() * smallest < _EXPECTED:
            columns[-1] = columns[-1] + column
        else:
            columns.append(column.copy())
    if len(columns) > 1 and columns[-1].sum() * smallest < _EXPECTED:
        last = columns.pop()
        columns[-1] = columns[-1] + last
    return np.stack(columns, axis=1)
