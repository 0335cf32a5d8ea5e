"""An ONNX graph in an older operator set, for parsers that end before the file's.

ONNX's own `version_converter` has no way down for Split, Pad, LpPool, ConstantOfShape, GridSample, Gelu, Mish and
GroupNormalization (onnx 1.23), so each operator that changed after opset 16 is known here. Most changed in the types
that they take and in attributes that came later; a few are written the old way by a rule; the others are refused by
name, and so is what this module has never heard of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import onnx
from onnx import TensorProto, helper

from export import graph
from export.errors import ExportError, first_line

LOWEST, HIGHEST = 16, 23
"""Operator sets between which graphs are rewritten."""

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
Nodes = list[onnx.NodeProto]
V = TypeVar("V")

_UNCHANGED = """
    Acos Acosh Asin Asinh Atan Atanh AveragePool Cast CastLike Constant ConstantOfShape Conv ConvTranspose Cos Cosh
    DequantizeLinear Det Dropout Elu Equal EyeLike Flatten GlobalAveragePool GlobalLpPool GlobalMaxPool GRU HardSigmoid
    HardSwish Identity InstanceNormalization IsInf IsNaN LSTM LpNormalization LpPool MaxPool MaxRoiPool MaxUnpool
    QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reshape RNN RoiAlign Round Selu Shape
    Sin Sinh Size Softplus Softsign Squeeze Tan ThresholdedRelu Transpose Unsqueeze
"""
"""Operators whose definitions of opset 16 to 23 differ in types and attributes only."""
_ANY = None
_NEUTRAL: Mapping[tuple[str, str], frozenset[Any] | None] = {
    ("AveragePool", "dilations"): frozenset({1}),
    ("Cast", "saturate"): _ANY,  # concerns 8-bit floats, which the older sets do not have
    ("Cast", "round_mode"): _ANY,
    ("CastLike", "saturate"): _ANY,
    ("CastLike", "round_mode"): _ANY,
    ("DequantizeLinear", "block_size"): frozenset({0}),
    ("DequantizeLinear", "output_dtype"): frozenset({0, TensorProto.FLOAT}),
    ("LpPool", "ceil_mode"): frozenset({0}),
    ("LpPool", "dilations"): frozenset({1}),
    ("QuantizeLinear", "block_size"): frozenset({0}),
    ("QuantizeLinear", "output_dtype"): frozenset({0, TensorProto.UINT8}),
    ("QuantizeLinear", "precision"): frozenset({0, TensorProto.FLOAT}),
    ("QuantizeLinear", "saturate"): _ANY,
    ("Resize", "antialias"): frozenset({0}),
    ("Resize", "keep_aspect_ratio_policy"): frozenset({b"stretch"}),
    ("Split", "num_outputs"): _ANY,  # `_split` has seen to it
}
"""Attributes that came later, and the values (of each element) with which an operator does what it did without."""


class _Refused(Exception):
    """What stands in the way of a node, in words that follow its operator's name."""


@dataclass(frozen=True)
class _Graph:
    """The graph under work, and what the rules look up in it."""

    model: onnx.ModelProto
    opset: int
    """To be reached."""
    shapes: Mapping[str, list[int | str]]
    types: Mapping[str, int]

    def constant(self, node: onnx.NodeProto, index: int, what: str) -> Array | None:
        """The value of an input, None where there is none."""
        if len(node.input) <= index or not node.input[index]:
            return None
        value = graph.constant(self.model, node.input[index])
        if value is None:
            raise _Refused(f"has {what} that are computed")
        return value

    def shape(self, name: str) -> list[int | str]:
        if name not in self.shapes:
            raise _Refused("has an input of unknown shape")
        return self.shapes[name]

    def scalar(self, node: onnx.NodeProto, value: float) -> str:
        """Name of a constant of the type of the node's input."""
        kind = self.types.get(node.input[0], TensorProto.FLOAT)
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        return graph.set_initializer(self.model, f"lowered/{value!r}/{dtype.name}", np.array(value, dtype))


def lower(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The same graph in an older operator set; outputs are the same but for rounding where a node is written out.

    Args:
        model: a graph of the default domain; one of `opset` or older is returned as it is.
        opset: the set to reach, from `LOWEST`.

    A node that is written out becomes nodes named `<its name>/<operator>`; others keep their names.

    Raises:
        ExportError: names the operator that the older set cannot say, its node and the reason.
    """
    source = graph.opset(model)
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    if source <= opset:
        return lowered
    if not LOWEST <= opset <= source <= HIGHEST:
        raise ExportError(
            f"a graph of opset {source} cannot be brought to opset {opset}",
            f"export with opset {LOWEST + 2} to {HIGHEST}",
        )
    graph.infer_shapes(lowered)
    work = _Graph(lowered, opset, graph.value_shapes(lowered), graph.value_types(lowered))
    nodes: Nodes = []
    for node in list(lowered.graph.node):
        try:
            nodes += _lowered(work, node, source)
        except _Refused as reason:
            raise ExportError(
                f"operator {node.op_type} at node {node.name or node.output[0]} {reason}: opset {opset} cannot say it",
                "choose another network, or a target whose parser reads newer operator sets",
            ) from None
    graph.replace_nodes(lowered, nodes)
    for entry in lowered.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    lowered.ir_version = helper.find_min_ir_version_for(list(lowered.opset_import))
    graph.prune(lowered)
    try:
        graph.infer_shapes(lowered)
        onnx.checker.check_model(lowered, full_check=True)
    except Exception as error:  # ValidationError, InferenceError
        raise ExportError(
            f"the graph is not valid in opset {opset}: {first_line(error)}",
            "choose another network, or a target whose parser reads newer operator sets",
        ) from error
    return lowered


def _lowered(work: _Graph, node: onnx.NodeProto, source: int) -> Nodes:
    if node.domain not in ("", "ai.onnx"):
        return [node]
    if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
        raise _Refused("holds a graph of its own")
    since = onnx.defs.get_schema(node.op_type, source).since_version
    if since <= work.opset:
        return [node]
    rule = _RULES.get(node.op_type)
    if rule is None and node.op_type not in _UNCHANGED.split():
        raise _Refused(f"came or changed with opset {since}")
    nodes = rule(work, node) if rule else [node]
    for one in nodes:
        _drop_later_attributes(one, work.opset)
    return nodes


def _drop_later_attributes(node: onnx.NodeProto, opset: int) -> None:
    known = onnx.defs.get_schema(node.op_type, opset).attributes
    values = graph.attributes(node)
    for index in reversed(range(len(node.attribute))):
        name = node.attribute[index].name
        if name in known:
            continue
        value = values[name]
        neutral = _NEUTRAL.get((node.op_type, name), frozenset())
        if neutral is not None and not set(value if isinstance(value, list) else [value]) <= neutral:
            said = value.decode() if isinstance(value, bytes) else value
            raise _Refused(f"has {name} {said}")
        del node.attribute[index]


def _attribute(node: onnx.NodeProto, name: str, default: V) -> V:
    """An attribute of the type that ONNX gives it."""
    return cast("V", graph.attributes(node).get(name, default))


def _refuse_value(node: onnx.NodeProto, name: str, *values: bytes) -> None:
    value = _attribute(node, name, b"")
    if value in values:
        raise _Refused(f"has {name} {value.decode()}")


def _without(node: onnx.NodeProto, *names: str) -> None:
    for index in reversed(range(len(node.attribute))):
        if node.attribute[index].name in names:
            del node.attribute[index]


def _reduce(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Axes are an attribute until 18 (of ReduceSum: until 13, and it is not asked here)."""
    if work.opset >= 18:  # what changed later is types
        return [node]
    axes = work.constant(node, 1, "axes")
    if (axes is None or not axes.size) and _attribute(node, "noop_with_empty_axes", 0):
        raise _Refused("has noop_with_empty_axes and no axes")
    del node.input[1:]
    _without(node, "noop_with_empty_axes")
    if axes is not None and axes.size:
        node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes.reshape(-1)]))
    return [node]


def _split(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Until 18 only equal parts go without sizes."""
    parts = len(node.output)
    if len(node.input) > 1 and node.input[1]:
        return [node]
    size = work.shape(node.input[0])[_attribute(node, "axis", 0)]
    if not isinstance(size, int):
        raise _Refused("splits a dimension of unknown size")
    if size % parts:
        each = math.ceil(size / parts)
        sizes = [*[each] * (parts - 1), size - each * (parts - 1)]
        name = graph.set_initializer(work.model, f"{node.output[0]}/sizes", np.array(sizes, np.int64))
        del node.input[1:]
        node.input.append(name)
    return [node]


def _pad(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Until 18 all axes are padded; 19 has a new mode."""
    if work.opset < 19:
        _refuse_value(node, "mode", b"wrap")
    if work.opset < 18 and len(node.input) > 3 and node.input[3]:
        axes, pads = work.constant(node, 3, "axes"), work.constant(node, 1, "pads")
        assert axes is not None and pads is not None
        rank, given = len(work.shape(node.input[0])), axes.size
        full = np.zeros((2, rank), np.int64)
        full[:, axes.reshape(-1) % rank] = pads.reshape(2, given)
        node.input[1] = graph.set_initializer(work.model, f"{node.output[0]}/pads", full.reshape(-1))
        del node.input[3:]
    return [node]


def _resize(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Until 18 all axes are resized; 19 has a new coordinate mode."""
    if work.opset < 19:
        _refuse_value(node, "coordinate_transformation_mode", b"half_pixel_symmetric")
    axes: list[int] = _attribute(node, "axes", [])
    if work.opset >= 18 or not axes:
        return [node]
    if len(node.input) > 1 and node.input[1]:
        raise _Refused("has axes and a region of interest")
    shape = work.shape(node.input[0])
    at = [axis % len(shape) for axis in axes]
    for index, what in ((2, "scales"), (3, "sizes")):
        given = work.constant(node, index, what)
        if given is None or not given.size:
            continue
        rest: list[int | str] = [1] * len(shape) if what == "scales" else shape
        if not all(isinstance(size, int) for axis, size in enumerate(rest) if axis not in at):
            raise _Refused("has sizes beside a dimension of unknown size")
        full = np.array([size if isinstance(size, int) else 0 for size in rest], given.dtype)
        full[at] = given.reshape(-1)
        node.input[index] = graph.set_initializer(work.model, f"{node.output[0]}/{what}", full)
    _without(node, "axes")
    return [node]


def _scatter(work: _Graph, node: onnx.NodeProto) -> Nodes:
    if work.opset < 18:
        _refuse_value(node, "reduction", b"max", b"min")
    return [node]


def _grid_sample(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """20 renamed the modes and takes volumes."""
    if work.opset >= 20:
        return [node]
    if len(work.shape(node.input[0])) != 4:
        raise _Refused("samples a volume")
    for attribute in node.attribute:
        if attribute.name == "mode":
            attribute.s = {b"linear": b"bilinear", b"cubic": b"bicubic"}.get(attribute.s, attribute.s)
    return [node]


def _gelu(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Came with 20: x * (1 + erf(x / sqrt 2)) / 2, or its approximation by tanh."""
    if work.opset >= 20:
        return [node]
    x, write = node.input[0], _Writer(node)
    if _attribute(node, "approximate", b"none") == b"tanh":
        cube = write("Mul", write("Mul", x, x), x)
        inner = write("Add", x, write("Mul", cube, work.scalar(node, 0.044715)))
        bent = write("Tanh", write("Mul", inner, work.scalar(node, math.sqrt(2 / math.pi))))
    else:
        bent = write("Erf", write("Mul", x, work.scalar(node, math.sqrt(0.5))))
    share = write("Mul", write("Add", bent, work.scalar(node, 1.0)), work.scalar(node, 0.5))
    return write.last("Mul", x, share)


def _mish(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Came with 18."""
    if work.opset >= 18:
        return [node]
    write = _Writer(node)
    return write.last("Mul", node.input[0], write("Tanh", write("Softplus", node.input[0])))


def _layer_norm(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Came with 17."""
    if any(node.output[1:]):
        raise _Refused("gives mean and deviation too")
    x, rank = node.input[0], len(work.shape(node.input[0]))
    first = _attribute(node, "axis", -1) % rank
    mean = {"axes": list(range(first, rank)), "keepdims": 1}
    write = _Writer(node)
    centred = write("Sub", x, write("ReduceMean", x, **mean))
    variance = write("ReduceMean", write("Mul", centred, centred), **mean)
    epsilon = work.scalar(node, _attribute(node, "epsilon", 1e-5))
    scaled = write("Div", centred, write("Sqrt", write("Add", variance, epsilon)))
    if len(node.input) < 3 or not node.input[2]:
        return write.last("Mul", scaled, node.input[1])
    return write.last("Add", write("Mul", scaled, node.input[1]), node.input[2])


def _group_norm(work: _Graph, node: onnx.NodeProto) -> Nodes:
    """Came with 18, and took its present form with 21."""
    if work.opset >= 21:
        return [node]
    _, channels, *plane = work.shape(node.input[0])
    if not isinstance(channels, int) or not all(isinstance(size, int) for size in plane):
        raise _Refused("has an input whose channels and plane are of unknown size")
    groups, write = _attribute(node, "num_groups", 1), _Writer(node)
    dtype = helper.tensor_dtype_to_np_dtype(work.types.get(node.input[0], TensorProto.FLOAT))

    def put(name: str, value: Array) -> str:
        return graph.set_initializer(work.model, f"{node.output[0]}/{name}", value)

    def per_channel(index: int, what: str) -> str:
        value = work.constant(node, index, what)
        assert value is not None
        spread = np.repeat(value, channels // value.size)
        return put(what, spread.reshape(-1, *[1] * len(plane)))

    grouped = write("Reshape", node.input[0], put("grouped", np.array([0, groups, -1], np.int64)))
    normal = write(
        "InstanceNormalization", grouped, put("one", np.ones(groups, dtype)), put("zero", np.zeros(groups, dtype)),
        epsilon=_attribute(node, "epsilon", 1e-5),
    )  # fmt: skip
    back = write("Reshape", normal, put("shape", np.array([-1, channels, *plane], np.int64)))
    return write.last("Add", write("Mul", back, per_channel(1, "scales")), per_channel(2, "biases"))


class _Writer:
    """Writes a node out as several; each call adds one and returns the tensor that it makes."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self._base = node.name or node.output[0]
        self._output = node.output[0]
        self._nodes: Nodes = []

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self._base}/{op}" + (f"_{len(self._nodes)}" if self._nodes else "")
        self._nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def last(self, op: str, *inputs: str) -> Nodes:
        """Adds the node that makes the tensor that the written node made; all nodes."""
        self(op, *inputs)
        self._nodes[-1].output[0] = self._output
        return self._nodes


_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip
_RULES: Mapping[str, Callable[[_Graph, onnx.NodeProto], Nodes]] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "Gelu": _gelu,
    "GridSample": _grid_sample,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "Mish": _mish,
    "Pad": _pad,
    "Resize": _resize,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "Split": _split,
}
"""Operator to what writes a node of it as the older set has it; called where the operator changed since."""
