"""Norms written out in elementary operators: which nodes of a graph compute `x / sqrt(mean(x**2) + epsilon)`.

Exporters write LayerNormalization as one node where the opset has it; RMS norms, norms of a network's own,
global response norms, normalised vectors and older exports arrive as Mul, ReduceMean, Add, Sqrt and Div.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from export import graph

_REDUCTIONS = (
    "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMax", "GlobalAveragePool",
)  # fmt: skip
_BETWEEN = (
    "Add", "Sub", "Mul", "Div", "Sqrt", "Pow", "Reciprocal", "Clip", "Max", "Abs", "Identity", "Cast",
    "Reshape", "Squeeze", "Unsqueeze", "Expand",
)  # fmt: skip
_MAGNITUDES = ("Pow", "Abs", "Exp")

Nodes = set[str]


def norm_arithmetic(model: onnx.ModelProto) -> Nodes:
    """Names of the nodes that compute a norm: from the centring of a tensor to the scale and shift behind it.

    A norm is a tensor divided by what elementwise operators make of its own reduction: `Div`, or `Mul` with a
    reciprocal. The gate of squeeze-and-excitation is none: it multiplies by what weights make of a mean.
    """
    made, readers = graph.producers(model), graph.consumers(model)
    written = {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    constants = written.union(graph.initializers(model))
    found: Nodes = set()
    for node in model.graph.node:
        if node.op_type == "Div":
            sides = [(node.input[0], node.input[1])]
        elif node.op_type == "Mul" and len(node.input) == 2:
            sides = [
                (one, other)
                for one, other in ((node.input[0], node.input[1]), (node.input[1], node.input[0]))
                if _is_reciprocal(other, made)
            ]
        else:
            continue
        for divided, divisor in sides:
            inside = _of_reductions(divisor, made, constants)
            if inside is None:
                continue
            found |= inside | {node.name} | _centring(divided, made, constants)
            found |= _scale_and_shift(node, readers, constants)
    return found


def _is_reciprocal(name: str, made: Mapping[str, onnx.NodeProto]) -> bool:
    node = made.get(name)
    return node is not None and node.op_type in ("Reciprocal", "Div", "Pow")


def _of_reductions(name: str, made: Mapping[str, onnx.NodeProto], constants: Collection[str]) -> Nodes | None:
    """The nodes that make `name` from reductions by elementwise operators; None if anything else is in it."""
    inside: Nodes = set()
    reduced = False
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if not current or current in constants:
            continue
        node = made.get(current)
        if node is None:
            return None
        if node.name in inside:
            continue
        inside.add(node.name)
        if node.op_type in _REDUCTIONS:
            reduced = True
            inside |= _magnitude(node.input[0], made, constants)
        elif node.op_type in _BETWEEN:
            waiting += (
                node.input[:1]
                if node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Expand")
                else node.input
            )
        else:
            return None
    return inside if reduced else None


def _magnitude(name: str, made: Mapping[str, onnx.NodeProto], constants: Collection[str]) -> Nodes:
    """The squaring or exponential in front of a reduction, the reduction that it reads, or nothing."""
    node = made.get(name)
    if node is None:
        return set()
    squares = node.op_type == "Mul" and node.input[0] == node.input[1]
    if squares or node.op_type in _MAGNITUDES:
        return {node.name} | _centring(node.input[0], made, constants)
    if node.op_type in _REDUCTIONS:  # the mean of norms, as in a global response norm
        return {node.name} | _magnitude(node.input[0], made, constants)
    return _centring(name, made, constants)


def _centring(name: str, made: Mapping[str, onnx.NodeProto], constants: Collection[str]) -> Nodes:
    """The subtraction of a mean (or a maximum) that makes `name`, and the mean; or nothing."""
    node = made.get(name)
    if node is None or node.op_type not in ("Sub", *_MAGNITUDES):
        return set()
    if node.op_type != "Sub":
        return {node.name} | _centring(node.input[0], made, constants)
    mean = _of_reductions(node.input[1], made, constants)
    return set() if mean is None else {node.name} | mean


def _scale_and_shift(
    node: onnx.NodeProto,
    readers: Mapping[str, list[onnx.NodeProto]],
    constants: Collection[str],
) -> Nodes:
    inside: Nodes = set()
    while len(after := readers.get(node.output[0], [])) == 1:
        node = after[0]
        if node.op_type not in ("Mul", "Div", "Add", "Sub") or not any(n in constants for n in node.input):
            break
        inside.add(node.name)
    return inside
