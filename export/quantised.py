"""How much of a graph is INT8: what a speed-up can come from, counted in the Q/DQ file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx

from export import graph

# What may stand between a DequantizeLinear and the layer without leaving INT8 once fused.
_TRANSPARENT = ("Reshape", "Transpose", "Flatten", "Identity", "Squeeze", "Unsqueeze")
_LARGEST = 3


@dataclass(frozen=True)
class FloatLayer:
    """A layer that stays in floating point, and its share of the multiply-accumulates."""

    name: str
    op: str
    macs_percent: float


@dataclass(frozen=True)
class QuantisedShare:
    """What of a graph is INT8.

    Attributes:
        layers: convolutions and matrix products.
        int8_layers: those whose operands all come from a DequantizeLinear.
        macs: multiply-accumulates of one image; 0 where shapes are unknown.
        int8_macs: of the INT8 layers.
        depthwise_macs: of the depthwise convolutions.
        quantize: QuantizeLinear nodes of activations; an engine fuses most of them.
        dequantize: DequantizeLinear nodes of activations.
        float_layers: the largest layers that stay in floating point.
    """

    layers: int
    int8_layers: int
    macs: int
    int8_macs: int
    depthwise_macs: int
    quantize: int
    dequantize: int
    float_layers: list[FloatLayer]


def quantised_share(model: Path | onnx.ModelProto) -> QuantisedShare:
    """Count the layers (convolutions and matrix products) whose operands all come from a DequantizeLinear.

    Raises:
        ExportError: the file is missing or damaged.
    """
    loaded = graph.load_model(model) if isinstance(model, Path) else model
    copy = onnx.ModelProto()
    copy.CopyFrom(loaded)
    # Not strict: an operator of another domain hides the shapes behind it, and the rest still counts.
    copy = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    shapes = {name: _sizes(shape) for name, shape in graph.value_shapes(copy).items()}
    shapes |= {name: list(tensor.dims) for name, tensor in graph.initializers(copy).items()}
    made = graph.producers(copy)
    layers = []
    for node in copy.graph.node:
        if node.op_type not in graph.COMPUTE_OPS:
            continue
        int8 = all(_dequantised(name, made) for name in node.input[:2])
        macs, depthwise = _macs(node, shapes)
        layers.append((node, int8, macs, depthwise))
    total = sum(macs for _, _, macs, _ in layers)
    left = sorted((row for row in layers if not row[1]), key=lambda row: -row[2])
    constants = set(graph.initializers(copy))
    return QuantisedShare(
        layers=len(layers),
        int8_layers=sum(int8 for _, int8, _, _ in layers),
        macs=total,
        int8_macs=sum(macs for _, int8, macs, _ in layers if int8),
        depthwise_macs=sum(macs for _, _, macs, depthwise in layers if depthwise),
        quantize=_activations(copy, "QuantizeLinear", constants),
        dequantize=_activations(copy, "DequantizeLinear", constants),
        float_layers=[
            FloatLayer(node.name, node.op_type, 100 * macs / total if total else 0.0)
            for node, _, macs, _ in left[:_LARGEST]
        ],
    )


def _sizes(shape: list[int | str]) -> list[int]:
    """Dimensions; one that is decided at run time (the batch) counts as 1."""
    return [size if isinstance(size, int) else 1 for size in shape]


def _dequantised(name: str, made: dict[str, onnx.NodeProto]) -> bool:
    node = made.get(name)
    while node is not None and node.op_type in _TRANSPARENT:
        node = made.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"


def _macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> tuple[int, bool]:
    """Multiply-accumulates of one image, and whether each channel is convolved alone."""
    out, left, right = (shapes.get(name) for name in (node.output[0], node.input[0], node.input[1]))
    if not out or not right:
        return 0, False
    if node.op_type in ("Conv", "ConvTranspose"):
        group = int(graph.attributes(node).get("group", 1))  # type: ignore[call-overload]
        grown = out if node.op_type == "Conv" else left or out
        return math.prod(grown[1:]) * math.prod(right[1:]), group > 1 and right[1] == 1
    if node.op_type == "Gemm":
        inner = right[1] if graph.attributes(node).get("transB") else right[0]
        return math.prod(out[1:]) * inner, False
    inner = right[-2] if len(right) > 1 else right[-1]
    return math.prod(out[1:]) * inner, False


def _activations(model: onnx.ModelProto, operator: str, constants: set[str]) -> int:
    return sum(node.op_type == operator and node.input[0] not in constants for node in model.graph.node)
