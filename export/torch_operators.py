"""ONNX operators in torch: those that image classifiers' graphs use, differentiable where the operator is.

Floating-point values are float32 whatever the graph says: FP16 is a matter of storage here. Shapes and indices are
int64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from export.errors import ExportError

Value = Tensor | None
Operator = Callable[["Node", Sequence[Any]], Tensor | Sequence[Tensor]]
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_TYPES = {TensorProto.BOOL: torch.bool, TensorProto.INT32: torch.int64, TensorProto.INT64: torch.int64}


@dataclass(frozen=True)
class Node:
    """One node: its type and name, its tensors by name (empty where one is left out), its attributes."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


def node_of(proto: onnx.NodeProto) -> Node:
    """A node as the operators below take it.

    Raises:
        ExportError: an operator type that has no entry in `OPERATORS`.
    """
    if proto.op_type not in OPERATORS or proto.domain not in ("", "ai.onnx"):
        raise ExportError(
            f"operator {proto.domain + '::' if proto.domain else ''}{proto.op_type} (node {proto.name!r}) has no "
            "torch counterpart here, so this graph cannot be fine-tuned",
            "set precision.qad.when: never, or add the operator to export/torch_operators.py",
        )
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    return Node(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), attributes)


def tensor_of(proto: onnx.TensorProto) -> Tensor:
    """An initializer's value: float32, bool, or int64."""
    value = torch.from_numpy(numpy_helper.to_array(proto).copy())
    if value.dtype == torch.bool:
        return value
    return value.to(torch.float32 if value.is_floating_point() else torch.int64)


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, inputs: function(inputs[0])


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, inputs: function(inputs[0], inputs[1])


def _ints(value: Value) -> list[int] | None:
    return None if value is None else [int(v) for v in value.reshape(-1).tolist()]


def _optional(inputs: Sequence[Any], index: int) -> Any:
    return inputs[index] if index < len(inputs) else None


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _padded(x: Tensor, node: Node, fill: float = 0.0) -> tuple[Tensor, list[int]]:
    """`x` with what padding is not symmetric made explicit, and the symmetric padding left to do."""
    spatial = x.ndim - 2
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ExportError(f"auto_pad of node {node.name!r} is not supported", "export explicit padding")
    pads = list(node.attributes.get("pads", [0] * 2 * spatial))
    begin, end = pads[:spatial], pads[spatial:]
    if begin == end:
        return x, begin
    ends = [p for pair in zip(reversed(begin), reversed(end), strict=True) for p in pair]
    return F.pad(x, ends, value=fill), [0] * spatial


def _conv(node: Node, inputs: Sequence[Any]) -> Tensor:
    x, weight = inputs[0], inputs[1]
    x, padding = _padded(x, node)
    spatial = x.ndim - 2
    function: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    return cast(
        Tensor,
        function(
            x,
            weight,
            _optional(inputs, 2),
            stride=node.attributes.get("strides", [1] * spatial),
            padding=padding,
            dilation=node.attributes.get("dilations", [1] * spatial),
            groups=node.attributes.get("group", 1),
        ),
    )


def _gemm(node: Node, inputs: Sequence[Any]) -> Tensor:
    a = inputs[0].T if node.attributes.get("transA", 0) else inputs[0]
    b = inputs[1].T if node.attributes.get("transB", 0) else inputs[1]
    product = torch.matmul(a, b) * node.attributes.get("alpha", 1.0)
    bias = _optional(inputs, 2)
    return cast(Tensor, product if bias is None else product + bias * node.attributes.get("beta", 1.0))


def _max_pool(node: Node, inputs: Sequence[Any]) -> Tensor:
    kernel = node.attributes["kernel_shape"]
    x, padding = _padded(inputs[0], node, float("-inf"))
    strides = node.attributes.get("strides", [1] * len(kernel))
    dilations = node.attributes.get("dilations", [1] * len(kernel))
    return F.max_pool2d(x, kernel, strides, padding, dilations, bool(node.attributes.get("ceil_mode", 0)))


def _average_pool(node: Node, inputs: Sequence[Any]) -> Tensor:
    kernel, counted = node.attributes["kernel_shape"], bool(node.attributes.get("count_include_pad", 0))
    x, padding = _padded(inputs[0], node)
    if x is not inputs[0] and not counted:
        raise ExportError(f"one-sided padding of node {node.name!r} is not supported", "pad before it")
    strides = node.attributes.get("strides", [1] * len(kernel))
    return F.avg_pool2d(x, kernel, strides, padding, bool(node.attributes.get("ceil_mode", 0)), counted)


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def operator(node: Node, inputs: Sequence[Any]) -> Tensor:
        x, axes = inputs[0], node.attributes.get("axes", _ints(_optional(inputs, 1)))
        if axes is None:
            if node.attributes.get("noop_with_empty_axes", 0):
                return cast(Tensor, x)
            axes = list(range(x.ndim))
        return function(x, dim=axes, keepdim=bool(node.attributes.get("keepdims", 1)))

    return operator


def _batch_normalization(node: Node, inputs: Sequence[Any]) -> Tensor:
    x, scale, bias, mean, variance = inputs
    factor = scale / torch.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    shape = (1, -1, *[1] * (x.ndim - 2))
    return cast(Tensor, x * factor.reshape(shape) + (bias - mean * factor).reshape(shape))


def _layer_normalization(node: Node, inputs: Sequence[Any]) -> Tensor:
    shape = inputs[0].shape[node.attributes.get("axis", -1) % inputs[0].ndim :]
    return F.layer_norm(
        inputs[0], shape, inputs[1], _optional(inputs, 2), node.attributes.get("epsilon", 1e-5)
    )


def _clip(node: Node, inputs: Sequence[Any]) -> Tensor:
    return torch.clamp(inputs[0], _optional(inputs, 1), _optional(inputs, 2))


def _hard_sigmoid(node: Node, inputs: Sequence[Any]) -> Tensor:
    slope, shift = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return torch.clamp(inputs[0] * slope + shift, 0.0, 1.0)


def _gelu(node: Node, inputs: Sequence[Any]) -> Tensor:
    return F.gelu(inputs[0], approximate=node.attributes.get("approximate", b"none").decode())


def _softmax(node: Node, inputs: Sequence[Any]) -> Tensor:
    return torch.softmax(inputs[0], node.attributes.get("axis", -1))


def _cast(node: Node, inputs: Sequence[Any]) -> Tensor:
    to = node.attributes["to"]
    if to in _FLOATS:
        return cast(Tensor, inputs[0].to(torch.float32))
    return cast(Tensor, inputs[0].to(_TYPES.get(to, torch.int64)))


def _shape(node: Node, inputs: Sequence[Any]) -> Tensor:
    dims = list(inputs[0].shape)
    return torch.tensor(dims[node.attributes.get("start", 0) : node.attributes.get("end", len(dims))])


def _reshape(node: Node, inputs: Sequence[Any]) -> Tensor:
    x, shape = inputs[0], _ints(inputs[1]) or []
    if not node.attributes.get("allowzero", 0):
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return cast(Tensor, x.reshape(shape))


def _flatten(node: Node, inputs: Sequence[Any]) -> Tensor:
    axis = node.attributes.get("axis", 1)
    lead = 1
    for size in inputs[0].shape[:axis]:
        lead *= size
    return cast(Tensor, inputs[0].reshape(lead, -1))


def _transpose(node: Node, inputs: Sequence[Any]) -> Tensor:
    order = node.attributes.get("perm", list(reversed(range(inputs[0].ndim))))
    return cast(Tensor, inputs[0].permute(order))


def _squeeze(node: Node, inputs: Sequence[Any]) -> Tensor:
    axes = _ints(_optional(inputs, 1))
    return torch.squeeze(inputs[0]) if axes is None else torch.squeeze(inputs[0], tuple(axes))


def _unsqueeze(node: Node, inputs: Sequence[Any]) -> Tensor:
    axes = _ints(inputs[1]) or []
    rank = inputs[0].ndim + len(axes)
    x = inputs[0]
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return cast(Tensor, x)


def _expand(node: Node, inputs: Sequence[Any]) -> Tensor:
    # The shape broadcasts both ways: a 1 in it keeps the input's size.
    shape = torch.empty(_ints(inputs[1]) or [], device="meta")
    return cast(Tensor, inputs[0].expand((inputs[0].to("meta") + shape).shape))


def _concat(node: Node, inputs: Sequence[Any]) -> Tensor:
    return torch.cat(list(inputs), node.attributes["axis"])


def _split(node: Node, inputs: Sequence[Any]) -> Sequence[Tensor]:
    axis, sizes = node.attributes.get("axis", 0), _ints(_optional(inputs, 1))
    if sizes is None:
        return torch.split(inputs[0], -(-inputs[0].shape[axis] // len(node.outputs)), axis)
    return torch.split(inputs[0], sizes, axis)


def _slice(node: Node, inputs: Sequence[Any]) -> Tensor:
    x = inputs[0]
    starts, ends = _ints(inputs[1]) or [], _ints(inputs[2]) or []
    axes = _ints(_optional(inputs, 3)) or list(range(len(starts)))
    steps = _ints(_optional(inputs, 4)) or [1] * len(starts)
    cut: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise ExportError(f"a backward slice (node {node.name!r}) is not supported", "export without it")
        cut[axis] = slice(start, end, step)
    return cast(Tensor, x[tuple(cut)])


def _gather(node: Node, inputs: Sequence[Any]) -> Tensor:
    x, indices, axis = inputs[0], inputs[1], node.attributes.get("axis", 0) % inputs[0].ndim
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    picked = torch.index_select(x, axis, indices.reshape(-1).to(x.device))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _pad(node: Node, inputs: Sequence[Any]) -> Tensor:
    if node.attributes.get("mode", b"constant") != b"constant" or _optional(inputs, 3) is not None:
        raise ExportError(
            f"only constant padding is supported (node {node.name!r})",
            "export the network with constant padding",
        )
    pads = _ints(inputs[1]) or []
    rank = len(pads) // 2
    ends = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[axis + rank])]
    fill = _optional(inputs, 2)
    return F.pad(inputs[0], ends, value=0.0 if fill is None else float(fill))


def _constant(node: Node, inputs: Sequence[Any]) -> Tensor:
    attributes = node.attributes
    if "value" in attributes:
        return tensor_of(attributes["value"])
    ((name, value),) = attributes.items()
    return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64)


def _constant_of_shape(node: Node, inputs: Sequence[Any]) -> Tensor:
    fill = node.attributes.get("value")
    value = torch.zeros(1) if fill is None else tensor_of(fill)
    return value.expand(_ints(inputs[0]) or []).clone()


def _where(node: Node, inputs: Sequence[Any]) -> Tensor:
    condition, yes, no = inputs
    device = yes.device if yes.device.type != "cpu" else no.device
    return torch.where(condition.to(device), yes, no)


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def operator(node: Node, inputs: Sequence[Any]) -> Tensor:
        result = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return cast(Tensor, result)

    return operator


def _quantisation(node: Node, inputs: Sequence[Any]) -> Tensor:
    raise AssertionError("the graph knows the scales")  # see export.torch_graph


OPERATORS: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "DequantizeLinear": _quantisation,
    "Div": _binary(_divide),
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _unary(lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)),
    "GlobalMaxPool": _unary(lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(lambda x: x * torch.clamp(x / 6 + 0.5, 0.0, 1.0)),
    "Identity": _unary(lambda x: x),
    "LayerNormalization": _layer_normalization,
    "LeakyRelu": lambda node, inputs: F.leaky_relu(inputs[0], node.attributes.get("alpha", 0.01)),
    "Log": _unary(torch.log),
    "MatMul": _binary(torch.matmul),
    "Max": _extreme(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _extreme(torch.minimum),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Pad": _pad,
    "Pow": _binary(torch.pow),
    "QuantizeLinear": _quantisation,
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _unary(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "Tanh": _unary(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""Operator type to its torch counterpart; one entry here is all that a new one needs."""
