"""Where FP16 cannot hold what an FP32 graph computes: found on real images, before any device overflows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export import graph
from export.precision.calibration import Observed

LARGEST_HALF = 65504.0
SMALLEST_NORMAL_HALF = 2.0**-14
MARGIN = 4.0
"""Images on the device may reach further than the calibration images: this much room is kept."""
LIMIT = LARGEST_HALF / MARGIN
_TOLERABLE_LOSS = 0.01
_MEANS = ("ReduceMean", "GlobalAveragePool", "AveragePool")
_SQUARES = (
    "LayerNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "ReduceL2",
    "ReduceSumSquare",
)

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class Finding:
    """One node that must not run in FP16.

    Attributes:
        node: its name.
        op: its type.
        tensor: the tensor that FP16 cannot hold.
        kind: `"overflow"`: the tensor itself is too large. `"sum"`: a sum inside the node is, before it is
            divided. `"squares"`: a sum of squares is. `"underflow"`: the whole tensor is below FP16's
            normal numbers. `"weights"`: weights that become 0 or lose digits change the result.
        value: the magnitude that was found; for `"weights"` the change of the output, as a share of it.
    """

    node: str
    op: str
    tensor: str
    kind: str
    value: float

    def says(self) -> str:
        """The finding in words."""
        return says(self.kind, self.tensor, self.value)

    def facts(self) -> dict[str, object]:
        """As plain values, with the sentence."""
        return asdict(self) | {"says": self.says()}


def says(kind: str, tensor: str, value: float) -> str:
    """A finding in words, from what `Finding` has."""
    if kind == "weights":
        return (
            f"weights {tensor!r} are below FP16's normal numbers (6e-5), which changes the output by "
            f"up to {100 * value:.2g} %"
        )
    if kind == "underflow":
        return f"{tensor!r} reaches {value:.2g} at most, below FP16's normal numbers (6e-5)"
    what = {"overflow": "", "sum": "a sum over ", "squares": "a sum of squares of "}[kind]
    return f"{what}{tensor!r} reaches {value:.3g}; FP16 ends at 65504, a {MARGIN:g}th is kept free"


def findings(model: onnx.ModelProto, seen: Observed) -> list[Finding]:
    """Nodes that leave FP16's range on the images that `seen` comes from, in graph order.

    A tensor that is too large concerns the node that writes it and all that read it. A sum is bounded by the
    largest result times the number of its terms, a sum of squares by the largest square times that number.
    Weights are judged by what their loss can do: the sum over one output of what each weight below 2**-14
    loses, times the largest input, against the largest output; more than 1 % is a finding.

    Args:
        model: the FP32 graph with shapes that `seen` is of.
        seen: its activations.
    """
    sizes = {name: max(-low, high) for name, (low, high) in seen.extremes.items()}
    known = _Known(sizes, graph.value_shapes(model), graph.initializers(model))
    firsts = (
        next(filter(None, (check(node, known) for check in _CHECKS)), None) for node in model.graph.node
    )
    return [finding for finding in firsts if finding]


@dataclass(frozen=True)
class _Known:
    sizes: dict[str, float]
    shapes: dict[str, list[int | str]]
    constants: dict[str, onnx.TensorProto]


def _tensors(node: onnx.NodeProto, known: _Known) -> Finding | None:
    for name in (*node.output, *node.input):
        size = known.sizes.get(name, 0.0)
        if size > LIMIT:
            return Finding(node.name, node.op_type, name, "overflow", size)
        if 0 < size < SMALLEST_NORMAL_HALF:
            return Finding(node.name, node.op_type, name, "underflow", size)
    return None


def _sums(node: onnx.NodeProto, known: _Known) -> Finding | None:
    if node.op_type not in (*_MEANS, *_SQUARES):
        return None
    source, target = node.input[0], node.output[0]
    if node.op_type == "AveragePool":
        kernel: Any = graph.attributes(node).get("kernel_shape", [1])
        terms = math.prod(kernel)
    elif node.op_type in ("LayerNormalization", "InstanceNormalization", "GroupNormalization"):
        terms = _size(known.shapes.get(source, []))
    else:
        terms = _size(known.shapes.get(source, [])) // max(_size(known.shapes.get(target, [])), 1)
    kind = "sum" if node.op_type in _MEANS else "squares"
    value = (
        known.sizes.get(target, 0.0) * terms if kind == "sum" else known.sizes.get(source, 0.0) ** 2 * terms
    )
    return Finding(node.name, node.op_type, source, kind, value) if value > LIMIT else None


def _weights(node: onnx.NodeProto, known: _Known) -> Finding | None:
    if node.op_type not in graph.COMPUTE_OPS or node.input[1] not in known.constants:
        return None
    tensor = known.constants[node.input[1]]
    if tensor.data_type != TensorProto.FLOAT or node.op_type == "ConvTranspose":
        return None
    loss = subnormal_loss(numpy_helper.to_array(tensor))
    axis = 0
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not graph.attributes(node).get("transB", 0)):
        axis = loss.ndim - 1
    per_output = np.moveaxis(loss, axis, 0).reshape(loss.shape[axis], -1).sum(axis=1)
    largest = float(per_output.max()) * known.sizes.get(node.input[0], 0.0)
    output = known.sizes.get(node.output[0], 0.0)
    share = largest / output if output > 0 else 0.0
    return (
        Finding(node.name, node.op_type, tensor.name, "weights", share) if share > _TOLERABLE_LOSS else None
    )


def subnormal_loss(weights: Array) -> Array:
    """What each weight below FP16's normal numbers loses when it becomes FP16; 0 for all others."""
    half = weights.astype(np.float16).astype(np.float32)
    return np.where(np.abs(weights) < SMALLEST_NORMAL_HALF, np.abs(weights - half), 0.0)


_CHECKS: tuple[Callable[[onnx.NodeProto, _Known], Finding | None], ...] = (_tensors, _sums, _weights)


def _size(shape: list[int | str]) -> int:
    return math.prod(dim for dim in shape[1:] if isinstance(dim, int))
