"""Orders of the classes along the axis that the wavelet transform runs over.

An order is an int64 array [C] that is a permutation of 0..C-1: position i of the transformed axis holds
class order[i]. The order is our choice, not a published part of the method, and it matters: neighbouring
classes are what the finest Haar band subtracts from each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from figkd.errors import FigkdError

Order = npt.NDArray[np.int64]
Kind = Literal["given", "confusion", "random", "hierarchy"]
KINDS: tuple[Kind, ...] = ("given", "confusion", "random", "hierarchy")


def identity(num_classes: int) -> Order:
    """Classes as given: int64 [C]."""
    return np.arange(num_classes, dtype=np.int64)


def random_order(num_classes: int, seed: int) -> Order:
    """A seeded random permutation: int64 [C]."""
    return np.random.default_rng(seed).permutation(num_classes).astype(np.int64)


def confusion_order(confusion: npt.ArrayLike) -> Order:
    """Order classes so that those which are confused with each other become neighbours.

    Rows are scaled to sum 1, the matrix is symmetrised, and one minus it is the distance of an
    average-linkage agglomerative clustering whose leaves, optimally ordered (Bar-Joseph et al. 2001, as in
    SciPy), are the order.

    Args:
        confusion: [C, C], >= 0; row = true class, column = predicted class; counts or mean probabilities.

    Returns:
        int64 [C].

    Raises:
        FigkdError: not a square matrix of finite values >= 0.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    matrix = np.asarray(confusion, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise FigkdError(f"a confusion matrix of shape {matrix.shape}", "it must be [C, C]")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise FigkdError("a confusion matrix with negative or non-finite entries")
    size = len(matrix)
    if size < 3:
        return identity(size)
    rows = matrix.sum(axis=1, keepdims=True)
    rates = matrix / np.where(rows > 0, rows, 1.0)
    distance = 1.0 - (rates + rates.T) / 2
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average", optimal_ordering=True)
    return cast(Order, leaves_list(tree).astype(np.int64))


def soft_confusion(
    logits: npt.ArrayLike, labels: npt.ArrayLike, num_classes: int, temperature: float = 1.0
) -> npt.NDArray[np.float64]:
    """Mean of softmax(logits / temperature) over the samples of each true class.

    A good classifier makes few errors on the data at hand; its probabilities still say what it finds alike.

    Args:
        logits: [N, C].
        labels: int [N] in 0..C-1.
        num_classes: C.
        temperature: > 0; larger spreads the probabilities.

    Returns:
        float64 [C, C]; the row of a class without samples is zero.

    Raises:
        FigkdError: shapes that do not fit, or a temperature that is not positive.
    """
    scores = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or scores.shape[1] != num_classes or truth.shape != scores.shape[:1]:
        raise FigkdError(
            f"logits {scores.shape} and labels {truth.shape} do not fit {num_classes} classes",
            "logits must be [N, C], labels [N]",
        )
    if temperature <= 0:
        raise FigkdError(f"temperature {temperature}", "it must be positive")
    scores = scores / temperature
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    total = np.zeros((num_classes, num_classes))
    np.add.at(total, truth, scores)
    counts = np.bincount(truth, minlength=num_classes)[:, None]
    return total / np.maximum(counts, 1)


def hierarchy_order(groups: Mapping[str, Any] | Sequence[Any], classes: Sequence[str]) -> Order:
    """Order classes as they come in a hierarchy.

    Args:
        groups: nested mappings or lists whose leaves are class names, e.g.
            {"terriers": ["Airedale", "Cairn"], "hounds": {"large": ["Bluetick"], "small": ["Beagle"]}}.
        classes: the C class names.

    Returns:
        int64 [C].

    Raises:
        FigkdError: the leaves are not exactly the classes, each once.
    """
    leaves = list(_leaves(groups))
    known = {name: index for index, name in enumerate(classes)}
    unknown = sorted(set(leaves) - set(known))
    missing = sorted(set(known) - set(leaves))
    twice = sorted({name for name in leaves if leaves.count(name) > 1})
    for problem, names in (("unknown", unknown), ("missing", missing), ("repeated", twice)):
        if names:
            raise FigkdError(
                f"the hierarchy has {len(names)} {problem} class(es): {', '.join(names[:5])}",
                "it must name every class exactly once",
            )
    return np.array([known[name] for name in leaves], dtype=np.int64)


def read_groups(path: Path) -> Any:
    """Read a hierarchy file: JSON, nested objects or lists with class names as leaves.

    Raises:
        FigkdError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FigkdError(f"cannot read the hierarchy file {path}: {error.strerror}") from error
    except ValueError as error:
        raise FigkdError(f"the hierarchy file {path} is not JSON: {error}") from error


def validate_order(order: npt.ArrayLike, num_classes: int) -> Order:
    """Return `order` as int64 [C], or raise FigkdError if it is not a permutation of 0..C-1."""
    array = np.asarray(order)
    if array.shape != (num_classes,) or array.dtype.kind not in "iu":
        raise FigkdError(
            f"a class order of shape {array.shape} and type {array.dtype}", f"{num_classes} integers"
        )
    if not np.array_equal(np.sort(array), np.arange(num_classes)):
        raise FigkdError("a class order that is not a permutation", f"each of 0..{num_classes - 1} once")
    return array.astype(np.int64)


def make_order(
    kind: Kind,
    num_classes: int,
    *,
    seed: int = 0,
    logits: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    temperature: float = 1.0,
    groups_file: Path | None = None,
    classes: Sequence[str] | None = None,
) -> Order:
    """Make an order by name.

    Args:
        kind: "given" (as the classes come), "random" (needs `seed`), "confusion" (needs the teacher's
            `logits` [N, C] and the true `labels` [N]; uses `temperature`), "hierarchy" (needs `groups_file`
            and `classes`).
        num_classes: C.
        seed: for "random".
        logits: for "confusion".
        labels: for "confusion".
        temperature: for "confusion".
        groups_file: for "hierarchy".
        classes: class names, for "hierarchy".

    Returns:
        int64 [C].

    Raises:
        FigkdError: an unknown kind, or an argument that the kind needs is not given.
    """
    if kind == "given":
        order = identity(num_classes)
    elif kind == "random":
        order = random_order(num_classes, seed)
    elif kind == "confusion":
        if logits is None or labels is None:
            raise FigkdError("the confusion order needs the teacher's logits and the labels")
        order = confusion_order(soft_confusion(logits, labels, num_classes, temperature))
    elif kind == "hierarchy":
        if groups_file is None or classes is None:
            raise FigkdError("the hierarchy order needs a hierarchy file and the class names")
        order = hierarchy_order(read_groups(groups_file), classes)
    else:
        raise FigkdError(f"unknown class order {kind!r}", f"one of {', '.join(KINDS)}")
    return validate_order(order, num_classes)


def _leaves(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    if isinstance(node, Mapping):
        node = list(node.values())
    if not isinstance(node, Sequence):
        raise FigkdError(f"the hierarchy has a leaf {node!r}", "leaves are class names")
    return [leaf for child in node for leaf in _leaves(child)]
