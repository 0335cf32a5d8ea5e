"""Choose nodes of a graph by type, name or pattern, and refuse names that choose nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import onnx

from export.errors import PrecisionError


def matching_nodes(
    model: onnx.ModelProto, selectors: Sequence[str], *, known_types: Collection[str] = ()
) -> set[str]:
    """Names of the nodes that any selector chooses.

    Args:
        model: the graph; node names are unique.
        selectors: operator types (`"Gemm"`), node names, weight names (`"backbone.classifier.weight"`: the
            nodes that read it) or shell patterns of either (`"backbone.blocks.0.*"`).
        known_types: types that may be absent from the graph without an error.

    Raises:
        PrecisionError: a selector chooses nothing; suggests the nearest name.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    chosen: set[str] = set()
    for selector in selectors:
        found = {
            node.name
            for node in model.graph.node
            if node.op_type == selector
            or fnmatchcase(node.name, selector)
            or any(name in weights and fnmatchcase(name, selector) for name in node.input)
        }
        if not found and selector not in known_types:
            candidates = sorted(
                {n.op_type for n in model.graph.node} | {n.name for n in model.graph.node} | weights
            )
            near = difflib.get_close_matches(selector, candidates, 3, 0.4)
            raise PrecisionError(
                f"no node matches {selector!r}",
                f"nearest: {', '.join(near)}" if near else "see `inspect` for names",
            )
        chosen |= found
    return chosen
