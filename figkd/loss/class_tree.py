"""The Haar tree over the classes for `figkd.loss.multiscale`: folds where nodes are many, a matrix above them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

FloatArray = npt.NDArray[np.float64]

# Nodes from which the rest of the tree is one matrix: folds of so few are more calls than work.
_TOP = 64


class ClassTree(nn.Module):
    """Nodes over the classes, and what a node's own weight adds to the factors of its children and of itself.

    Of band j (1 is the finest) a node joins two nodes of band j - 1; the leaves are the classes, in an order in which
    a fold joins the first half of an axis with its second half. After `folds` folds at most 64 nodes are left, or the
    level is reached; the bands above are one matrix.

    Args:
        order: int64 [C], position i of the leaves holds class order[i].
        bands: weights of the detail bands, fine to coarse, and last that of the approximation (the coarsest nodes):
            from `figkd.loss.multiscale.band_weights_of`.

    Attributes:
        folds: number of bands made by folds, F.
        coarsest: weight of the approximation.
        weights: of every node made by a fold, finest first, then 0 for each of the N above: [nodes].
        index: class of every leaf [n], n >= C; None if the leaves are the classes as they come.
        empty: leaves without a class; None if there are none.
        places: leaf of every class [C], or None.
        members: [m, N], 1 where one of the N nodes above contains one of the m nodes after the folds; None if there
            are no nodes above.
        spread: [N, N + m], the weighted factor that a node gives to its children, less its own.
        constant: [N + m], what the approximation gives.
    """

    weights: Tensor
    index: Tensor | None
    empty: Tensor | None
    places: Tensor | None
    members: Tensor | None
    spread: Tensor | None
    constant: Tensor | None

    def __init__(self, order: npt.NDArray[np.int64], bands: Sequence[float]) -> None:
        super().__init__()
        classes, level = len(order), len(bands) - 1
        self.folds = min(level, max(0, math.ceil(math.log2(classes / _TOP))))
        self.coarsest = float(bands[-1])
        index = empty = places = members = spread = constant = None
        if self.folds:
            leaves = fold_index(order, self.folds)
            index = torch.from_numpy(np.where(leaves < classes, leaves, 0))
            if (leaves == classes).any():
                empty = torch.from_numpy(np.flatnonzero(leaves == classes))
            places = torch.from_numpy(np.argsort(leaves, kind="stable")[:classes].copy())
            roots = np.arange(len(leaves) >> self.folds)
            sizes = [len(leaves) >> fold for fold in range(1, self.folds + 1)]
        else:  # the matrices' rows are the classes as they come: nothing is moved
            roots, sizes = np.argsort(order), []
        if level > self.folds:
            found = _matrices(roots, bands[self.folds :])
            members, spread, constant = (torch.tensor(one, dtype=torch.float32) for one in found)
        nodes = sum(sizes) + (0 if members is None else members.shape[1])
        weights = torch.zeros(nodes)
        weights[: sum(sizes)] = torch.tensor(np.repeat(bands[: self.folds], sizes), dtype=torch.float32)
        for name, value in (
            ("weights", weights), ("index", index), ("empty", empty), ("places", places),
            ("members", members), ("spread", spread), ("constant", constant),
        ):  # fmt: skip
            self.register_buffer(name, value, persistent=False)

    @property
    def leaves(self) -> int:
        """Number of leaves, C or more."""
        return len(self.index) if self.index is not None else len(self.members)  # type: ignore[arg-type]


def fold_index(order: npt.ArrayLike, level: int) -> npt.NDArray[np.int64]:
    """Arrange classes so that each level of the tree joins the first half of an axis with its second half.

    Halves are contiguous, which is what makes the folds fast. An odd node has no sibling: its place is filled
    with an empty class.

    Args:
        order: class order [C]; position i of the tree's leaves holds class order[i].
        level: number of levels, 1..ceil(log2(C)).

    Returns:
        int64 [n], n = C rounded up to a multiple of 2^level; entry C stands for the empty class.
    """
    leaves = np.asarray(order, dtype=np.int64)
    block = 1 << level
    count = math.ceil(len(leaves) / block)
    padded = np.full(count * block, len(leaves), dtype=np.int64)
    padded[: len(leaves)] = leaves
    bits = [int(format(i, f"0{level}b")[::-1], 2) for i in range(block)]
    found: npt.NDArray[np.int64] = padded.reshape(count, block)[:, bits].T.reshape(-1).copy()
    return found


def _matrices(
    roots: npt.NDArray[np.int64], bands: Sequence[float]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`members`, `spread` and `constant` of the bands above nodes whose positions along the axis are `roots`."""
    *details, approximation = bands
    groups = [roots >> band for band in range(1, len(details) + 1)]
    counts = [int(group.max()) + 1 for group in groups]
    starts = np.concatenate([[0], np.cumsum(counts)])
    nodes, below = int(starts[-1]), len(roots)
    members = np.zeros((below, nodes))
    spread = np.zeros((nodes, nodes + below))
    constant = np.zeros(nodes + below)
    for band, (group, weight) in enumerate(zip(groups, details, strict=True)):
        members[np.arange(below), starts[band] + group] = 1
        own = np.arange(starts[band], starts[band + 1])
        spread[own, own] -= weight
        if band:
            children = np.arange(starts[band - 1], starts[band])
            spread[starts[band] + (np.arange(counts[band - 1]) >> 1), children] += weight
        else:
            spread[group, nodes + np.arange(below)] += weight
    constant[starts[-2] : starts[-1]] = approximation
    return members, spread, constant
