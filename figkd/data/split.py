"""A seeded, stratified split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from figkd.errors import DataError

Indices = npt.NDArray[np.int64]


def stratified_split(labels: npt.ArrayLike, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Hold out a fraction of every class.

    A class of n samples gives round(fraction * n), at least 1 and at most n - 1; a class with a single sample
    gives none. What is held out of a class depends on that class alone.

    Args:
        labels: int [N].
        fraction: 0 <= fraction < 1; 0 holds out nothing.
        seed: of the choice.

    Returns:
        Indices kept and held out, int64, ascending.

    Raises:
        DataError: a fraction out of range.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"a split fraction of {fraction}", "0 <= fraction < 1")
    classes = np.asarray(labels, dtype=np.int64)
    held = np.zeros(len(classes), dtype=bool)
    if fraction > 0:
        for label in np.unique(classes):
            members = np.flatnonzero(classes == label)
            if len(members) < 2:
                continue
            count = min(max(1, round(fraction * len(members))), len(members) - 1)
            chosen = np.random.default_rng([seed, int(label)]).permutation(len(members))[:count]
            held[members[chosen]] = True
    return np.flatnonzero(~held).astype(np.int64), np.flatnonzero(held).astype(np.int64)
