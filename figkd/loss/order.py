"""Orders of the classes along the axis that the wavelet transform runs over.

An order is an int64 array [C] that is a permutation of 0..C-1: position i of the transformed axis holds
class order[i]. The order is our choice, not a published part of the method, and it matters: neighbouring
classes are what the finest Haar band subtracts from each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from figkd.errors import FigkdError
from figkd.files import read_json
from figkd.progress import Progress, no_progress

Order = npt.NDArray[np.int64]
Kind = Literal["given", "confusion", "random", "hierarchy"]
_GROUPS_BYTES, _DEEPEST = 10_000_000, 50
OPTIMAL_UP_TO = 1_000
"""Classes up to which leaves are ordered optimally, whose cost grows faster than with the cube of their number."""
PER_CLASS = 128
"""Most images of a class that are asked which classes it is like."""
_BLOCK_VALUES = 1_000_000
KINDS: tuple[Kind, ...] = ("given", "confusion", "random", "hierarchy")


def identity(num_classes: int) -> Order:
    """Classes as given: int64 [C]."""
    return np.arange(num_classes, dtype=np.int64)


def random_order(num_classes: int, seed: int) -> Order:
    """A seeded random permutation: int64 [C]."""
    return np.random.default_rng(seed).permutation(num_classes).astype(np.int64)


def confusion_order(confusion: npt.ArrayLike) -> Order:
    """Order classes so that those which are confused with each other become neighbours.

    Rows are scaled to sum 1, the matrix is symmetrised, and one minus it is the distance of an average-linkage
    agglomerative clustering, whose leaves are the order. Up to `OPTIMAL_UP_TO` classes they are ordered optimally
    (Bar-Joseph et al. 2001, as in SciPy); beyond, each merge turns its two clusters so that the closest ends touch
    (Gruvaeus and Wainer 1972), and time and memory grow with the square of the number of classes.

    Args:
        confusion: [C, C], >= 0; row = true class, column = predicted class; counts or mean probabilities.

    Returns:
        int64 [C].

    Raises:
        FigkdError: not a square matrix of finite values >= 0.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    matrix = np.asarray(confusion, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise FigkdError(f"a confusion matrix of shape {matrix.shape}", "it must be [C, C]")
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise FigkdError("a confusion matrix with negative or non-finite entries")
    size = len(matrix)
    if size < 3:
        return identity(size)
    distances = _distances(matrix)
    tree = linkage(distances, method="average", optimal_ordering=size <= OPTIMAL_UP_TO)
    if size > OPTIMAL_UP_TO:
        return _closest_ends(tree, distances)
    return cast(Order, leaves_list(tree).astype(np.int64))


def _distances(confusion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One minus the symmetrised rates of [C, C], as the upper triangle by rows: float64 [C (C - 1) / 2].

    In blocks of rows: of the C^2 values, only the result is held.
    """
    size = len(confusion)
    rows = confusion.sum(axis=1, keepdims=True)
    rows[rows <= 0] = 1.0
    condensed = np.empty(size * (size - 1) // 2)
    step, place = max(_BLOCK_VALUES // size, 1), 0
    for start in range(0, size, step):
        stop = min(start + step, size)
        own = confusion[start:stop, start:] / rows[start:stop]
        others = (confusion[start:, start:stop] / rows[start:]).T
        block = 1.0 - (own + others) / 2
        for row in range(stop - start):
            part = block[row, row + 1 :]
            condensed[place : place + len(part)] = part
            place += len(part)
    return condensed


def _closest_ends(tree: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]) -> Order:
    """Leaves of a linkage [C - 1, 4], where the two clusters of a merge are turned so that their closest ends touch."""
    size = len(tree) + 1

    def between(a: int, b: int) -> float:
        low, high = min(a, b), max(a, b)
        return float(distances[low * size - low * (low + 1) // 2 + high - low - 1])

    runs = {leaf: np.array([leaf], dtype=np.int64) for leaf in range(size)}
    for merge, (first, second) in enumerate(tree[:, :2].astype(np.int64).tolist()):
        left, right = runs.pop(first), runs.pop(second)
        ways = ((left, right), (left, right[::-1]), (left[::-1], right), (left[::-1], right[::-1]))
        runs[size + merge] = np.concatenate(
            min(ways, key=lambda way: between(int(way[0][-1]), int(way[1][0])))
        )
    return runs[2 * size - 2]


def images_to_compare(labels: npt.ArrayLike, per_class: int = PER_CLASS) -> npt.NDArray[np.int64]:
    """Rows of the images whose logits say which classes are alike: int64 [M], ascending.

    Args:
        labels: int [N] in 0..C-1.
        per_class: at most so many of a class, evenly spaced among its own.
    """
    truth = np.asarray(labels, dtype=np.int64)
    by_class = np.argsort(truth, kind="stable")
    counts = np.bincount(truth)
    own = truth[by_class]
    place = np.arange(len(truth)) - (np.cumsum(counts) - counts)[own]
    there, wanted = counts[own], np.minimum(counts, per_class)[own]
    kept = place * wanted // there != (place - 1) * wanted // there
    return np.sort(by_class[kept])


def soft_confusion(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_classes: int,
    temperature: float = 1.0,
    progress: Progress = no_progress,
) -> npt.NDArray[np.float64]:
    """Mean of softmax(logits / temperature) over the samples of each true class.

    A good classifier makes few errors on the data at hand; its probabilities still say what it finds alike.

    Args:
        logits: [N, C]; may be memory-mapped.
        labels: int [N] in 0..C-1.
        num_classes: C.
        temperature: > 0; larger spreads the probabilities.
        progress: called with samples done.

    Returns:
        float64 [C, C]; the row of a class without samples is zero.

    Raises:
        FigkdError: shapes that do not fit, or a temperature that is not positive.
    """
    given = np.asarray(logits)
    truth = np.asarray(labels, dtype=np.int64)
    if given.ndim != 2 or given.shape[1] != num_classes or truth.shape != given.shape[:1]:
        raise FigkdError(
            f"logits {given.shape} and labels {truth.shape} do not fit {num_classes} classes",
            "logits must be [N, C], labels [N]",
        )
    if temperature <= 0:
        raise FigkdError(f"temperature {temperature}", "it must be positive")
    total = np.zeros((num_classes, num_classes))
    step = max(_BLOCK_VALUES // num_classes, 1)
    for start in range(0, len(given), step):
        stop = min(start + step, len(given))
        progress(start, len(given), "look-alikes among the classes")
        scores = given[start:stop].astype(np.float64) / temperature
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        np.add.at(total, truth[start:stop], scores)
    total /= np.maximum(np.bincount(truth, minlength=num_classes)[:, None], 1)
    return total


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
    twice = sorted(name for name, times in Counter(leaves).items() if times > 1)
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
        FigkdError: the file is missing, too large or not JSON.
    """
    try:
        return read_json(path, _GROUPS_BYTES)
    except OSError as error:
        raise FigkdError(f"cannot read the hierarchy file {path}: {error.strerror}") from error
    except ValueError as error:
        raise FigkdError(f"the hierarchy file {path} cannot be read as JSON: {error}") from error


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
    progress: Progress = no_progress,
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
        progress: for "confusion"; called with samples done, then before the clustering.

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
        confusion = soft_confusion(logits, labels, num_classes, temperature, progress)
        progress(0, 1, f"ordering {num_classes:,} classes")
        order = confusion_order(confusion)
    elif kind == "hierarchy":
        if groups_file is None or classes is None:
            raise FigkdError("the hierarchy order needs a hierarchy file and the class names")
        order = hierarchy_order(read_groups(groups_file), classes)
    else:
        raise FigkdError(f"unknown class order {kind!r}", f"one of {', '.join(KINDS)}")
    return validate_order(order, num_classes)


def _leaves(node: Any, level: int = 0) -> list[str]:
    if level > _DEEPEST:
        raise FigkdError(f"the hierarchy has more than {_DEEPEST} levels")
    if isinstance(node, str):
        return [node]
    if isinstance(node, Mapping):
        node = list(node.values())
    if not isinstance(node, Sequence):
        raise FigkdError(f"the hierarchy has a leaf {node!r:.80}", "leaves are class names")
    return [leaf for child in node for leaf in _leaves(child, level + 1)]
