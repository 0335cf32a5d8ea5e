"""An ONNX graph as a torch module: what is trained is what is shipped, down to the same initializers.

A quantised graph is trained as it stands. Its Q/DQ nodes round as the engine does, and pass gradients on to the
weights and to the scales (`export.precision.fake_quant`). Batch norm is folded into the convolutions by then, and there
is no dropout: this is for the short fine-tuning of a trained network, not for training one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from export import graph
from export.errors import ExportError
from export.precision.fake_quant import dequantize, half_through, quantize
from export.torch_operators import OPERATORS, Node, node_of, tensor_of

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
Role = Literal["weight", "integers", "scale", "product", "constant"]

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_RANGES: dict[int, tuple[int, int]] = {TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255)}
# The largest INT32 that float32 holds.
_BIAS_RANGE = (-(2**31), 2**31 - 128)
# Symmetric weights leave -128 out; those of 7 bits (for CPUs without VNNI) reach to 64.
_REDUCED, _FULL = 64, 127
# FP16's subnormals are multiples of 2**-24, and a scale must be several of them (see export.precision.qdq).
_MIN_HALF_SCALE = 2.0**-20
# Float inputs, by position, that are no weights: statistics, and sizes.
_NOT_TRAINED = {"BatchNormalization": (3, 4), "Resize": (1, 2)}
_LEARNT = ("weight", "integers", "scale")
_NO_WEIGHTS: Mapping[str, Array] = {}


@dataclass(frozen=True)
class _Stored:
    """An initializer: how it is stored, and what it is to the graph."""

    role: Role
    """`weight`: trained. `integers`: a weight or bias stored as integers, trained unquantised. `scale`: learnt.
    `product`: an INT32 bias's scale. `constant`: anything else."""
    kind: int
    """Element type, of `onnx.TensorProto`."""
    shape: tuple[int, ...]
    key: str = ""
    """Its name as a parameter or buffer; these know no dots."""
    dequantize: Node | None = None
    """Of `integers`: the node that reads it."""
    limits: tuple[int, int] = (0, 0)
    """Of `integers`: smallest and largest."""
    factors: tuple[str, str] = ("", "")
    """Of `product`: the scales of the layer's input and weight."""


class TorchGraph(nn.Module):
    """An ONNX graph whose weights are trained and whose Q/DQ scales are learnt.

    forward takes the graph's input (any batch, even where the file fixes one) and returns its output, float32. FP16
    parts are computed in float32, with weights and scales rounded to FP16, as the file stores them.

    Trained are: every float initializer of more than one element but for the preprocessing and the statistics of batch
    norm; every weight and bias that the file stores as integers, unquantised; every scale. An INT32 bias has no scale
    of its own: it is the product of its layer's other two, as engines require. Zero points stay as they are.

    A parameter p, float32, is the change since the start, 0 at first. A weight is `start + rms(start) p`, a scale
    `start exp(p)`, which keeps it positive (TQT, Jain et al. 2020). So a learning rate means the same for all of them,
    whatever their magnitude: with an optimizer like Adam, about the largest relative change in a step.
    """

    def __init__(self, model: onnx.ModelProto, *, weights: Mapping[str, Array] = _NO_WEIGHTS) -> None:
        """Take a graph over.

        Args:
            model: the graph, with or without Q/DQ; it is copied.
            weights: initializers of the FP32 graph that this one was made from, by name. What is stored coarser here
                (`<name>_quantized`, `<name>_fp16`) starts from them; without them, from what is stored.

        Raises:
            ExportError: an operator that is not in `export.torch_operators`, or an INT32 constant that is no bias.
        """
        super().__init__()
        self._proto = model.SerializeToString()
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        self.nodes = [node_of(node) for node in model.graph.node]
        self._dead = _dead_after(self.nodes, self._output)
        self._stored = _describe(model, self.nodes)
        self._fixed: dict[str, Tensor] = {}
        zero_points = {node.inputs[2] for node in self.nodes if node.type in _QDQ and len(node.inputs) > 2}
        self._shifted: set[str] = set()
        self.changes = nn.ParameterDict()
        for proto in model.graph.initializer:
            stored, value = self._stored[proto.name], tensor_of(proto)
            if stored.role in ("weight", "integers"):
                original = _original(proto.name, stored.shape, weights)
                if original is not None:
                    value = original
                elif stored.role == "integers":
                    value = _dequantized(model, value, stored)
            if stored.role in _LEARNT:
                self.register_buffer(stored.key, value)
                self.changes[stored.key] = nn.Parameter(torch.zeros_like(value))
            elif proto.name in zero_points and bool(value.any()):
                self._shifted.add(proto.name)
                self.register_buffer(stored.key, value.to(torch.float32))
            elif stored.role == "constant" and value.is_floating_point():
                self.register_buffer(stored.key, value)
            elif stored.role == "constant":
                self._fixed[proto.name] = value

    def forward(self, images: Tensor) -> Tensor:
        """The graph's output, float32, for its input [B, ...]."""
        values = {name: self.value(name) for name in self._stored} | {self._input: images}
        for node, dead in zip(self.nodes, self._dead, strict=True):
            inputs = [values[name] if name else None for name in node.inputs]
            values.update(zip(node.outputs, self.compute(node, inputs), strict=False))
            for name in dead:
                del values[name]
        output: Tensor = values[self._output].to(torch.float32)
        return output

    def compute(self, node: Node, inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """The outputs of one of `nodes` for its inputs (None where one is left out)."""
        result = self._convert(node, inputs) if node.type in _QDQ else OPERATORS[node.type](node, inputs)
        return [result] if isinstance(result, Tensor) else result

    def to_onnx(self) -> onnx.ModelProto:
        """The graph with its present weights and scales, stored in the types that it came with."""
        model: onnx.ModelProto = onnx.ModelProto.FromString(self._proto)
        with torch.no_grad():
            for name, stored in self._stored.items():
                if stored.role == "constant":
                    continue
                value = self._levels(name) if stored.role == "integers" else self.value(name)
                dtype = onnx.helper.tensor_dtype_to_np_dtype(stored.kind)
                graph.set_initializer(model, name, value.cpu().numpy().astype(dtype).reshape(stored.shape))
        return model

    def value(self, name: str) -> Tensor:
        """An initializer as the graph computes with it; what is stored as integers, unquantised."""
        stored = self._stored[name]
        if stored.role == "product":
            first, second = (self.value(factor).reshape(-1) for factor in stored.factors)
            return (first * second).expand(int(np.prod(stored.shape))).reshape(stored.shape)
        if stored.role == "constant":
            return self._fixed[name] if name in self._fixed else self.get_buffer(stored.key)
        start, change = self.get_buffer(stored.key), self.changes[stored.key]
        half = stored.kind == TensorProto.FLOAT16
        if stored.role == "scale":
            value = start * torch.exp(change)
            value = torch.clamp(value, min=_MIN_HALF_SCALE) if half else value
        else:
            value = start + start.square().mean().sqrt() * change
        return half_through(value) if half else value

    def _levels(self, name: str) -> Tensor:
        """What is stored as integers, as such."""
        stored = self._stored[name]
        assert stored.dequantize is not None
        scale, zero_point, axis = self._quantisation(stored.dequantize)
        return quantize(self.value(name), scale, zero_point, *stored.limits, axis)

    def _convert(self, node: Node, inputs: Sequence[Tensor | None]) -> Tensor:
        scale, zero_point, axis = self._quantisation(node)
        x = inputs[0]
        assert x is not None
        if node.type == "QuantizeLinear":
            kind = self._stored[node.inputs[2]].kind if len(node.inputs) > 2 else TensorProto.UINT8
            return quantize(x, scale, zero_point, *_RANGES[kind], axis)
        source = self._stored.get(node.inputs[0])
        if source is not None and source.role == "integers":
            x = self._levels(node.inputs[0])
        return dequantize(x, scale, zero_point, axis)

    def _quantisation(self, node: Node) -> tuple[Tensor, Tensor | None, int]:
        """Scale, zero point (None if 0) and axis of a Q or DQ node."""
        name = node.inputs[2] if len(node.inputs) > 2 else ""
        zero_point = self.get_buffer(self._stored[name].key) if name in self._shifted else None
        return self.value(node.inputs[1]), zero_point, node.attributes.get("axis", 1)


def _dead_after(nodes: Sequence[Node], output: str) -> list[list[str]]:
    """For each node, the values that nothing reads after it."""
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        last.update(dict.fromkeys(filter(None, (*node.inputs, *node.outputs)), index))
    dead: list[list[str]] = [[] for _ in nodes]
    for name, index in last.items():
        if name != output:
            dead[index].append(name)
    return dead


def _describe(model: onnx.ModelProto, nodes: Sequence[Node]) -> dict[str, _Stored]:
    """Every initializer by name."""
    protos = graph.initializers(model)
    conversions = [node for node in nodes if node.type in _QDQ]
    for node in conversions:
        if any(name not in protos for name in node.inputs[1:]):
            raise ExportError(f"the scale of node {node.name!r} is no constant", "fold constants first")
    readers = {node.inputs[0]: node for node in conversions if node.inputs[0] in protos}
    integers = {name: node for name, node in readers.items() if node.type == "DequantizeLinear"}
    biases = {name: node for name, node in integers.items() if protos[name].data_type == TensorProto.INT32}
    factors = {node.inputs[1]: _factors(node, nodes) for node in biases.values()}
    scales = {node.inputs[1] for node in conversions} - set(factors)
    trained = _trained(model, nodes)
    found: dict[str, _Stored] = {}
    for number, (name, proto) in enumerate(protos.items()):
        kind, shape = proto.data_type, tuple(proto.dims)
        key = f"{number:04d}_{name.replace('.', '/')}"
        if name in integers:
            limits = _BIAS_RANGE if name in biases else _limits(proto)
            found[name] = _Stored("integers", kind, shape, key, integers[name], limits)
        elif name in factors:
            found[name] = _Stored("product", kind, shape, factors=factors[name])
        elif name in scales:
            found[name] = _Stored("scale", kind, shape, key)
        else:
            found[name] = _Stored("weight" if name in trained else "constant", kind, shape, key)
    return found


def _factors(bias: Node, nodes: Sequence[Node]) -> tuple[str, str]:
    """The scales of the input and of the weight of the layer that a bias belongs to."""
    made = {name: node for node in nodes for name in node.outputs}
    for layer in nodes:
        if len(layer.inputs) > 2 and layer.inputs[2] == bias.outputs[0]:
            first, second = (made.get(name) for name in layer.inputs[:2])
            if first is not None and second is not None and {first.type, second.type} == {_QDQ[1]}:
                return first.inputs[1], second.inputs[1]
    raise ExportError(
        f"the INT32 constant of node {bias.name!r} is no bias of a quantised layer", "exclude it"
    )


def _limits(proto: onnx.TensorProto) -> tuple[int, int]:
    """The range of weights stored as integers, which their type alone does not tell."""
    if proto.data_type != TensorProto.INT8:
        return _RANGES[proto.data_type]
    reduced = int(np.abs(numpy_helper.to_array(proto).astype(np.int64)).max(initial=0)) <= _REDUCED
    return (-_REDUCED, _REDUCED) if reduced else (-_FULL, _FULL)


def _trained(model: onnx.ModelProto, nodes: Sequence[Node]) -> set[str]:
    """Names of the float initializers that are weights."""
    before = set(graph.preprocessing(model))
    excluded: set[str] = set()
    for node in nodes:
        positions = range(len(node.inputs)) if node.name in before else _NOT_TRAINED.get(node.type, ())
        excluded |= {node.inputs[i] for i in positions if i < len(node.inputs)}
    names = set()
    for proto in model.graph.initializer:
        if proto.name in excluded or proto.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            continue
        array = numpy_helper.to_array(proto)
        if array.size > 1 and np.isfinite(array).all():
            names.add(proto.name)
    return names


def _original(name: str, shape: tuple[int, ...], weights: Mapping[str, Array]) -> Tensor | None:
    """The FP32 weight that an initializer was made from."""
    for suffix in ("", "_quantized", "_fp16"):
        array = weights.get(name.removesuffix(suffix))
        if array is not None and array.shape == shape:
            return torch.tensor(array, dtype=torch.float32)
    return None


def _dequantized(model: onnx.ModelProto, levels: Tensor, stored: _Stored) -> Tensor:
    assert stored.dequantize is not None
    protos, node = graph.initializers(model), stored.dequantize
    scale = tensor_of(protos[node.inputs[1]])
    zero_point = tensor_of(protos[node.inputs[2]]) if len(node.inputs) > 2 else None
    return dequantize(levels.to(torch.float32), scale, zero_point, node.attributes.get("axis", 1))
