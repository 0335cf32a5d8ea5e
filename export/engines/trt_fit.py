"""An ONNX graph as one version of TensorRT takes it: its operator set, its types, and the flags of the builder.

Where precision is what the file says (from 10.0 on) only an operator set that is too new is rewritten. TensorRT 8.x
has no strong typing: it gets FP32 values, with FP32 Q/DQ in an INT8 graph, and builder flags for the precisions that it
may choose from. What the file computes in FP32 although it is FP16, because its values leave FP16's range, is held
there layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from export import graph, onnx_opset
from export.engines.trt_versions import Dialect
from export.precision.widen import widen

# Their products have two factors that are computed; those of other operators have weights.
_PRODUCTS = ("MatMul", "Gemm", "Einsum", "Attention")


@dataclass(frozen=True)
class Fitted:
    """A graph to be parsed, and the flags for a builder without strong typing."""

    model: onnx.ModelProto
    flags: tuple[str, ...] = ()
    """Members of `BuilderFlag`: the precisions of the file, beside FP32."""
    fp32_layers: tuple[str, ...] = ()
    """Nodes, and so layers, whose results must be FP32 whatever the builder finds faster."""
    note: str = ""
    """What a reader of the report should know; empty where the file says it all."""


def fit(library: str, chosen: Dialect, model: onnx.ModelProto) -> Fitted:
    """A graph for one version of TensorRT; `trt_refusals` says which graphs it should be given.

    Args:
        library: name and version, `"tensorrt 8.6.2"`.
        chosen: how that version is spoken to.
        model: FP32, FP16, BF16, or INT8 in TensorRT's layout; not changed.

    Raises:
        ExportError: an operator that the older set cannot say, with its node.
    """
    flags = tuple(precision_flags(model, chosen))
    fp32: tuple[str, ...] = ()
    if not chosen.strong_typing:
        model, fp32 = widen(model)
    if graph.opset(model) > chosen.max_opset:
        model = onnx_opset.lower(model, chosen.max_opset)
    note = "" if chosen.strong_typing else _note(library, flags, len(fp32))
    return Fitted(model, flags, _written_out(model, fp32), note)


def kind_of(model: onnx.ModelProto) -> str:
    """Precision of an ONNX file: `int8` where it has Q/DQ, else `fp16`, `bf16` or `fp32` by its tensors."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    types = set(graph.value_types(model).values())
    types |= {a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    for name in ("FLOAT16", "BFLOAT16"):
        if getattr(onnx.TensorProto, name) in types:
            return {"FLOAT16": "fp16", "BFLOAT16": "bf16"}[name]
    return "fp32"


def precision_flags(model: onnx.ModelProto, chosen: Dialect) -> list[str]:
    """Members of `BuilderFlag` that let a weakly typed build use the precisions of the file, and no others."""
    types = set(graph.value_types(model).values())
    flags = []
    if onnx.TensorProto.FLOAT16 in types:
        flags.append("FP16")
    if onnx.TensorProto.BFLOAT16 in types and chosen.bf16:
        flags.append("BF16")
    if kind_of(model) == "int8":
        flags.append("INT8")
    return flags


def attention(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that multiply computed values with each other; an empty list for a convolutional network."""
    constants = set(graph.initializers(model))
    found = []
    for node in model.graph.node:
        if all(name in constants for name in node.input if name):  # weights through Q/DQ, casts, transposes
            constants.update(node.output)
        elif node.op_type in _PRODUCTS and not any(name in constants for name in node.input[:2]):
            found.append(node.name or node.output[0])
    return found


def _written_out(model: onnx.ModelProto, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of nodes after `lower`, which writes one out as several that begin with its name and a slash."""
    wanted = set(names)
    return tuple(n.name for n in model.graph.node if n.name in wanted or n.name.rpartition("/")[0] in wanted)


def _note(library: str, flags: tuple[str, ...], held: int) -> str:
    if not flags:
        return ""
    kept = f"; {held} layer{'s are' if held > 1 else ' is'} held in FP32" if held else ""
    return f"{library} chose FP32 or {' or '.join(flags)} for each layer by speed (it has no strong typing){kept}"
