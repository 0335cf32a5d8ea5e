"""Multiply-adds of a graph's convolutions and products: the weight of a layer in a share of the work."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from export import graph


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Name of each Conv, ConvTranspose, Gemm and MatMul to its multiply-adds for one image.

    A convolution has (elements of the output) x (kernel area) x (input channels of a group), a product
    (elements of the output) x (length of the inner dimension). Dimensions that are open count as 1: with the
    batch open, that is one image. Nodes whose shapes are unknown count as 0.

    Args:
        model: a graph with inferred shapes.
    """
    shapes = graph.value_shapes(model)
    shapes.update({tensor.name: list(tensor.dims) for tensor in model.graph.initializer})
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type not in graph.COMPUTE_OPS:
            continue
        left, right, out = (shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
        if not left or not right or not out:
            found[node.name] = 0
        elif node.op_type == "Conv":
            found[node.name] = _size(out) * _size(right[1:])
        elif node.op_type == "ConvTranspose":
            found[node.name] = _size(left) * _size(right[1:])
        elif node.op_type == "Gemm":
            inner = left[0] if graph.attributes(node).get("transA", 0) else left[-1]
            found[node.name] = _size(out) * _size([inner])
        else:
            found[node.name] = _size(out) * _size(left[-1:])
    batch = graph.batch_size(model) or 1
    return {name: count // batch for name, count in found.items()}


def _size(shape: Sequence[int | str]) -> int:
    return math.prod(dim for dim in shape if isinstance(dim, int))
