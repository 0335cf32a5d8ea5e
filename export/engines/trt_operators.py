"""What TensorRT's ONNX parser documents to read, as a check that needs neither the library nor a GPU.

Source: `docs/operators.md` and `docs/Changelog.md` of github.com/onnx/onnx-tensorrt. The lists for 8.5 and 8.6 (JetPack
5.1 and 6.0) are those of its branches 8.5-GA and 8.6-GA, and so is what their importers leave out without a word. The
list for 10.3 (JetPack 6.1 and 6.2) is the one of 9.2 with what the changelog adds up to 10.3; taking from the one of
10.15 what the changelog adds after 10.3 gives the same list. The parser has the last word: a graph that passes here may
still be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from export import graph
from export.engines.trt_versions import Version

FLOOR: Version = (10, 3)
"""The oldest version that exported files are meant for."""
OLDEST, NEWEST = (8, 5), (10, 15)
"""First and last version that the tables describe; others are left to their parser."""

_ALWAYS = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu
    Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
    Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample HardSigmoid HardSwish Identity If ImageScaler
    InstanceNormalization IsNaN LRN LSTM LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul
    Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad
    ParametricSoftplus Pow QuantizeLinear RNN
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence RoiAlign Round ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin
    Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile
    TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
_LATER: Mapping[str, Version] = {
    **dict.fromkeys(("GroupNormalization", "IsInf", "LayerNormalization"), (8, 6)),
    **dict.fromkeys(("CastLike", "Gelu", "Hardmax", "Mish"), (10, 0)),
    "BlackmanWindow": (10, 4),
    "HammingWindow": (10, 4),
    "HannWindow": (10, 4),
    "STFT": (10, 5),
    "Attention": (10, 14),
    "RMSNormalization": (10, 15),
    "RotaryEmbedding": (10, 15),
    "TensorScatter": (10, 15),
}
SINCE: Mapping[str, Version] = {**dict.fromkeys(_ALWAYS.split(), OLDEST), **_LATER}
"""Operator of the default ONNX domain to the first TensorRT from 8.5 on that reads it; 9 is taken as 8.6. The changelog
is silent about `Gelu` and `Mish` of opsets 18 and 20, which 10.0 reads as a whole; 10.3's Python bindings have the
activations of `Gelu`. `DeformConv` is left out: 10.1 and later import it as a plugin, and only trtexec registers
plugins."""


@dataclass(frozen=True)
class Unsupported:
    """A node that the parser refuses."""

    operator: str
    node: str
    reason: str
    """Empty where the operator as such is unknown, else what the parser does not take of it."""


@dataclass(frozen=True)
class _Facts:
    """What the restrictions look at, read once."""

    constants: Mapping[str, TensorProto]
    types: Mapping[str, int]


_Restriction = Callable[[onnx.NodeProto, Mapping[str, Any], _Facts], str]
_INTEGERS = (TensorProto.INT32, TensorProto.INT64)


def supported(version: Version = FLOOR) -> frozenset[str]:
    """Operators that TensorRT of `version` (8.5 to 10.15) reads."""
    return frozenset(name for name, since in SINCE.items() if since <= version)


def unsupported(model: onnx.ModelProto, version: Version = FLOOR) -> list[Unsupported]:
    """Nodes of a graph, in its order, that TensorRT's documentation rules out.

    Args:
        model: with the types of its tensors, as `graph.infer_shapes` leaves it.
        version: of TensorRT (not of TensorRT-RTX). Nothing is known of versions before 8.5 and after 10.15:
            for them the list is empty.
    """
    if not OLDEST <= version[:2] <= NEWEST:
        return []
    known = supported(version)
    constants = graph.initializers(model)
    for node in _nodes(model.graph):
        if node.op_type == "Constant" and graph.attributes(node).get("value") is not None:
            constants[node.output[0]] = node.attribute[0].t
    facts = _Facts(constants, graph.value_types(model))
    found: list[Unsupported] = []
    for node in _nodes(model.graph):
        if node.domain not in ("", "ai.onnx"):
            found.append(
                Unsupported(f"{node.domain}::{node.op_type}", node.name, "it is not of ONNX's own domain")
            )
        elif node.op_type not in known:
            since = SINCE.get(node.op_type)
            later = f"it came with {_text(since)}" if since is not None else ""
            found.append(Unsupported(node.op_type, node.name, later))
        else:
            attributes = graph.attributes(node)
            reasons = (
                restriction(node, attributes, facts)
                for operators, until, restriction in _RESTRICTIONS
                if (not operators or node.op_type in operators) and (until is None or version < until)
            )
            found += [Unsupported(node.op_type, node.name, reason) for reason in reasons if reason]
    return found


def operator_problem(model: onnx.ModelProto, version: Version = FLOOR) -> tuple[str, str] | None:
    """Why TensorRT of `version` cannot parse a graph, and what helps; None if nothing is known against it.

    Names the first operator and node, the reason if it is a restriction, and how many more nodes there are.
    """
    found = unsupported(model, version)
    if not found:
        return None
    more = f", and {len(found) - 1} more nodes" if len(found) > 1 else ""
    quantised = found[0].operator in ("QuantizeLinear", "DequantizeLinear")
    return (
        f"{describe(found[0], version)}{more}",
        "build from the INT8 file made for TensorRT"
        if quantised
        else "choose another network or a newer TensorRT, or run it by ONNX Runtime",
    )


def describe(problem: Unsupported, version: Version = FLOOR) -> str:
    """One sentence without its full stop."""
    reason = f": {problem.reason}" if problem.reason else ""
    return f"operator {problem.operator} at node {problem.node} is not supported by TensorRT {_text(version)}{reason}"


def _text(version: Version) -> str:
    return ".".join(map(str, version[:2]))


def _nodes(piece: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in piece.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _pooling(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    if len(attributes.get("kernel_shape", (1, 1))) not in (2, 3):
        return "only 2D and 3D pooling is"
    if any(step != 1 for step in attributes.get("dilations", ())):
        return "dilations are not"
    return "its output of indices is not" if len(node.output) > 1 and node.output[1] else ""


def _one_output(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    return "only its first output is" if any(node.output[1:]) else ""


def _symmetric(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    if node.op_type == "DequantizeLinear" and facts.types.get(node.input[0]) == TensorProto.INT32:
        return "INT32 values (quantised biases) are not"
    if len(node.input) < 3 or not node.input[2]:
        # Without a zero point, the standard's default type is unsigned.
        unsigned = node.op_type == "QuantizeLinear" and not attributes.get("output_dtype", 0)
        return "unsigned values are not" if unsigned else ""
    zero = facts.constants.get(node.input[2])
    if zero is None:
        return "a zero point that is computed is not"
    if zero.data_type in (TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT16):
        return f"values of type {TensorProto.DataType.Name(zero.data_type)} are not"
    if zero.data_type == TensorProto.INT8 and np.any(onnx.numpy_helper.to_array(zero)):
        return "a zero point other than 0 is not"
    return ""


def _zero_point(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    return "" if len(node.input) > 2 and node.input[2] else "one without a zero point is not"


def _whole_shape(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    bounds = [name for name in ("start", "end") if name in attributes]
    # The importers of 8.5 and 8.6 do not look at them, and give the whole shape.
    return f"its {' and '.join(bounds)} {'are' if len(bounds) > 1 else 'is'} not" if bounds else ""


def _resize(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    taken = {
        "mode": {b"nearest", b"linear"},
        "coordinate_transformation_mode": {
            b"half_pixel", b"pytorch_half_pixel", b"tf_half_pixel_for_nn", b"asymmetric", b"align_corners",
        },
        "keep_aspect_ratio_policy": {b"stretch"},
    }  # fmt: skip
    for name, values in taken.items():
        value = attributes.get(name)
        if value is not None and value not in values:
            return f"{name} {value.decode()} is not"
    return "antialiasing is not" if attributes.get("antialias", 0) else ""


def _constant(position: int, what: str) -> _Restriction:
    def check(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
        given = len(node.input) > position and node.input[position]
        return f"{what} that are computed are not" if given and given not in facts.constants else ""

    return check


def _pad_axes(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    return "its input of axes is not" if len(node.input) > 3 and node.input[3] else ""


def _float_exponent(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    return "an integer exponent is not" if facts.types.get(node.input[1]) in _INTEGERS else ""


def _float_base(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    return "an integer base is not" if facts.types.get(node.input[0]) in _INTEGERS else ""


def _plain_einsum(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    equation = attributes["equation"].decode().replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if "..." in equation:
        return "an ellipsis is not"
    return "a diagonal is not" if any(len(set(term)) < len(term) for term in terms) else ""


def _same_precision(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    types = {facts.types[name] for name in node.input if name in facts.types}
    return "data and parameters of different types are not" if len(types) > 1 else ""


def _no_training(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    mode = facts.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return "training mode is not" if mode is not None and onnx.numpy_helper.to_array(mode).any() else ""


def _no_reduction(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    return "a reduction is not" if attributes.get("reduction", b"none") != b"none" else ""


def _top_k(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    if not attributes.get("sorted", 1):
        return "unsorted results are not"
    count = facts.constants.get(node.input[1])
    large = count is not None and int(onnx.numpy_helper.to_array(count).reshape(-1)[0]) >= 3840
    return "K of 3840 or more is not" if large else ""


def _bytes(node: onnx.NodeProto, attributes: Mapping[str, Any], facts: _Facts) -> str:
    if node.op_type in ("Cast", "CastLike", "QuantizeLinear", "DequantizeLinear"):
        return ""
    inside = any(facts.types.get(name) == TensorProto.UINT8 for name in node.input if name)
    return "UINT8 is only at a network's input and output; a Cast must come first" if inside else ""


_REDUCTIONS = frozenset(name for name in SINCE if name.startswith("Reduce"))
_RESTRICTIONS: tuple[tuple[frozenset[str], Version | None, _Restriction], ...] = (
    (frozenset(), None, _bytes),
    (frozenset({"AveragePool", "MaxPool", "LpPool"}), None, _pooling),
    (frozenset({"LayerNormalization", "BatchNormalization"}), None, _one_output),
    (frozenset({"QuantizeLinear", "DequantizeLinear"}), None, _symmetric),
    (frozenset({"Resize"}), None, _resize),
    (frozenset({"Dropout"}), None, _no_training),
    (frozenset({"ScatterND"}), None, _no_reduction),
    (frozenset({"TopK"}), None, _top_k),
    (frozenset({"QuantizeLinear", "DequantizeLinear"}), (10, 0), _zero_point),
    (frozenset({"Shape"}), (10, 0), _whole_shape),
    (frozenset({"TopK"}), (8, 6), _constant(1, "numbers K")),
    (frozenset({"InstanceNormalization"}), (8, 6), _constant(1, "scales")),
    (frozenset({"InstanceNormalization"}), (8, 6), _constant(2, "biases")),
    (_REDUCTIONS, None, _constant(1, "axes")),
    (frozenset({"Squeeze", "Unsqueeze"}), (10, 7), _constant(1, "axes")),
    (frozenset({"CumSum"}), (10, 8), _constant(1, "axes")),
    (frozenset({"Slice"}), (10, 3), _constant(3, "axes")),
    (frozenset({"Pad"}), (10, 4), _pad_axes),
    (frozenset({"BatchNormalization"}), (10, 7), _same_precision),
    (frozenset({"Pow"}), (10, 8), _float_exponent),
    (frozenset({"Pow"}), (10, 12), _float_base),
    (frozenset({"Einsum"}), (10, 12), _plain_einsum),
)
"""Operators (none: all), the first version without the restriction (None: up to the last), and the check."""
