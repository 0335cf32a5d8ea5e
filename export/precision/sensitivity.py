"""Automatic mixed precision: what INT8 costs group by group, and which groups to take out of it.

Everything is INT8 first. If that costs more accuracy than the budget allows, each group is measured by what its
return to floating point gives back while all others stay INT8, and the worst are returned until the budget holds.
Then those that turn out not to be needed go back into INT8, the most expensive first.

Why all but one, and not one at a time: errors of layers add up and mask each other, and what counts is what a
group's return gives back in the network that is about to be shipped. For the same reason the groups are measured
again once the worst are gone: beside a layer that ruins everything no other one's harm can be seen.

Why groups are ranked by divergence and not by accuracy: on some hundred images the accuracy moves in steps of
tenths of a percentage point, and a single group's share is often below one; the divergence of the class
probabilities uses every image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from posixpath import commonpath, dirname
from typing import Any

import numpy as np
import onnx

from export import graph
from export.errors import PrecisionError
from export.macs import multiply_adds
from export.precision.rules import WEIGHTED
from export.progress import Progress, no_progress

MAX_PRODUCTS = 8
"""A group of more convolutions and products than this is split: returning it whole would cost too much."""

_DIVERGED = 1e6

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class Group:
    """What is taken out of INT8 together: a residual block, or one convolution with what is fused into it.

    Attributes:
        name: what the weights' names have in common, else the first node's name.
        nodes: names of all its nodes.
        products: names of its convolutions and products.
        macs: their multiply-adds for one image.
    """

    name: str
    nodes: frozenset[str]
    products: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class Score:
    """How good a graph is: top-1 in percent, and the divergence of its class probabilities from FP32's.

    The divergence is the mean over images of KL(FP32 || graph), in nats.
    """

    top1: float
    divergence: float


@dataclass(frozen=True)
class Returned:
    """A group that was taken out of INT8, with the scores of the network before and after."""

    group: Group
    before: Score
    after: Score


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        reference: top-1 of FP32 on the same images, percent.
        max_drop: the budget, percentage points.
        before: everything in INT8.
        after: what remains in INT8.
        returned: groups that were taken out, in the order in which they were.
        harms: for each group its name and the score of everything but it, worst first; empty if none was measured.
        met: the budget holds.
        evaluations: graphs that were scored, remembered ones included.
    """

    reference: float
    max_drop: float
    before: Score
    after: Score
    returned: tuple[Returned, ...] = ()
    harms: dict[str, Score] = field(default_factory=dict)
    met: bool = True
    evaluations: int = 1

    @property
    def nodes(self) -> frozenset[str]:
        """Names of the nodes that were taken out."""
        return _nodes(step.group for step in self.returned)

    def facts(self, total_macs: int) -> dict[str, object]:
        """As plain values; `total_macs` are the graph's, for shares in percent."""
        return {
            "reference": self.reference,
            "max_drop": self.max_drop,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "met": self.met,
            "evaluations": self.evaluations,
            "harms": {name: asdict(score) for name, score in self.harms.items()},
            "returned": [
                {
                    "group": step.group.name,
                    "products": list(step.group.products),
                    "macs_percent": 100.0 * step.group.macs / max(total_macs, 1),
                    "before": asdict(step.before),
                    "after": asdict(step.after),
                }
                for step in self.returned
            ],
        }


def _nodes(members: Iterable[Group]) -> frozenset[str]:
    return frozenset().union(*(group.nodes for group in members))


def score_of(logits: Array, labels: Array, reference: Array) -> Score:
    """Score logits [N, C] against labels [N] and FP32 logits [N, C]; NaN or infinity make everything wrong.

    Raises:
        PrecisionError: shapes that do not fit, or no images.
    """
    if logits.shape != reference.shape or labels.shape != (len(logits),) or not len(logits):
        raise PrecisionError(
            f"logits {list(logits.shape)}, labels {list(labels.shape)} and FP32 logits {list(reference.shape)} "
            "do not fit together"
        )
    if not np.isfinite(logits).all():
        return Score(0.0, _DIVERGED)
    p, q = _log_softmax(reference), _log_softmax(logits)
    divergence = float((np.exp(p) * (p - q)).sum(axis=1).mean())
    return Score(float(100.0 * (logits.argmax(axis=1) == labels).mean()), max(divergence, 0.0))


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def groups(model: onnx.ModelProto, products: Collection[str]) -> list[Group]:
    """Cut an FP32 graph where one tensor alone goes on, and keep the pieces that hold any of `products`.

    A residual block has its shortcut beside it until the addition, so it is one piece; in a plain chain each
    convolution is. What follows without products of its own (activations, poolings) belongs to the piece
    before. Pieces of more than `MAX_PRODUCTS` (dense blocks) are split evenly.

    Args:
        model: FP32 graph with shapes.
        products: names of the convolutions and products that INT8 computes.
    """
    types = graph.value_types(model)
    last: dict[str, int] = {}
    for index, node in enumerate(model.graph.node):
        last.update(dict.fromkeys(node.input, index))
    last.update(dict.fromkeys((value.name for value in model.graph.output), len(model.graph.node)))
    image = model.graph.input[0].name
    computed = {image}
    alive = {image}
    pieces: list[list[onnx.NodeProto]] = [[]]
    for index, node in enumerate(model.graph.node):
        pieces[-1].append(node)
        if any(name in computed for name in node.input):
            computed.update(node.output)
            alive.update(n for n in node.output if n in last and types.get(n) == onnx.TensorProto.FLOAT)
        alive = {name for name in alive if last[name] > index}
        if len(alive) == 1:
            pieces.append([])
    merged: list[list[onnx.NodeProto]] = []
    for piece in pieces:
        if any(node.name in products for node in piece):
            merged.append(list(piece))
        elif merged:
            merged[-1] += piece
    macs = multiply_adds(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_group(part, products, macs, weights) for piece in merged for part in _split(piece, products)]


def _split(piece: list[onnx.NodeProto], products: Collection[str]) -> list[list[onnx.NodeProto]]:
    count = sum(node.name in products for node in piece)
    parts = -(-count // MAX_PRODUCTS)
    share = -(-count // parts)
    result: list[list[onnx.NodeProto]] = [[]]
    held = 0
    for node in piece:
        if node.name in products:
            if held == share:
                result.append([])
                held = 0
            held += 1
        result[-1].append(node)
    return result


def _group(
    nodes: list[onnx.NodeProto], products: Collection[str], macs: dict[str, int], weights: Collection[str]
) -> Group:
    inside = [node for node in nodes if node.name in products]
    # The exporter keeps most weights' names, such as `blocks.0.conv.weight`, and numbers the others.
    paths = [n.input[1].replace(".", "/") for n in inside if n.input[1] in weights and "." in n.input[1]]
    shared = (commonpath(map(dirname, paths)) if paths else "").replace("/", ".")
    return Group(
        shared or inside[0].name,
        frozenset(node.name for node in nodes),
        tuple(node.name for node in inside),
        sum(macs.get(node.name, 0) for node in inside if node.op_type in WEIGHTED),
    )


def search(
    candidates: Sequence[Group],
    score: Callable[[frozenset[str]], Score],
    *,
    reference: float,
    max_drop: float,
    progress: Progress = no_progress,
) -> Outcome:
    """Take the worst groups out of INT8 until the accuracy budget holds.

    Args:
        candidates: the groups, each of which may be taken out.
        score: the score of the graph with these nodes out of INT8.
        reference: top-1 of FP32 on the same images, percent.
        max_drop: the largest allowed loss, percentage points.
        progress: called after each evaluation; the total grows when groups are measured again.

    Returns:
        The outcome. If the budget cannot be held with at least one group in INT8, `met` is False, and what
        came nearest (of equal ones the one with most in INT8) is kept.
    """
    groups_ = _distinct(candidates)
    done, total = 0, 1 + len(groups_)

    def scored(members: Sequence[Group], note: str) -> Score:
        nonlocal done, total
        found = score(_nodes(members))
        done, total = done + 1, max(total, done + 1)
        progress(done, total, note)
        return found

    def within(found: Score) -> bool:
        return reference - found.top1 <= max_drop + 1e-9

    before = current = scored([], "everything in INT8")
    steps: list[Returned] = []
    alone: dict[str, Score] = {}
    harms: dict[str, Score] = {}
    measured_at = np.inf
    while not within(current) and len(steps) < len(groups_) - 1:
        taken = [step.group for step in steps]
        left = [group for group in groups_ if group not in taken]
        again = not alone or current.divergence < measured_at / 2
        if again:
            total = done + len(left) + 1
            alone = {group.name: scored([*taken, group], f"without {group.name}") for group in left}
            measured_at = current.divergence
        worst = min(left, key=lambda group: (alone[group.name].divergence, -alone[group.name].top1))
        harms = harms or dict(sorted(alone.items(), key=lambda item: item[1].divergence))
        after = (
            alone[worst.name] if again else scored([*taken, worst], f"{len(steps) + 1} groups out of INT8")
        )
        steps.append(Returned(worst, current, after))
        current = after
    if not within(current):
        states = [before, *(step.after for step in steps)]
        best = max(range(len(states)), key=lambda i: (states[i].top1, -i))
        steps, current = steps[:best], states[best]
    elif len(steps) > 1:
        for step in sorted(steps, key=lambda step: -step.group.macs):
            rest = [other for other in steps if other is not step]
            found = scored([other.group for other in rest], f"{step.group.name} back in INT8")
            if rest and within(found):
                steps, current = rest, found
    progress(total, total, "done")
    return Outcome(reference, max_drop, before, current, tuple(steps), harms, within(current), done)


def _distinct(candidates: Sequence[Group]) -> list[Group]:
    """The groups, those of one name told apart by their first product."""
    names = Counter(group.name for group in candidates)
    return [
        group if names[group.name] == 1 else replace(group, name=f"{group.name} ({group.products[0]})")
        for group in candidates
    ]
