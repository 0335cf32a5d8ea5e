"""FP16 files by casts: half inside, FP32 where range or precision needs it, uint8/FP32 at both ends."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export import graph
from export.errors import ExportError, PrecisionError
from export.precision.calibration import Observed
from export.precision.half_range import LARGEST_HALF, Finding, findings
from export.precision.names import matching_nodes

DEFAULT_KEEP_FP32: tuple[str, ...] = (
    "LayerNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "Softmax",
    "LogSoftmax",
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL2",
    "ReduceLogSumExp",
    "Pow",
    "Exp",
    "Log",
    "CumSum",
)
"""Operator types whose intermediate sums or powers leave FP16's range (65504) on ordinary activations."""

# These ops either refuse float16 in the ONNX standard or take FP32 parameters beside the data.
_ALWAYS_FP32 = (
    "Range",
    "Resize",
    "Upsample",
    "NonMaxSuppression",
    "Multinomial",
    "RandomNormal",
    "RandomUniform",
)
_ROUNDS_TO_ZERO = 2.0**-25
_PASSING = ("Sqrt", "Expand", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity")
_CASTS = ("to_fp16_", "to_bf16_", "to_fp32_")

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def to_fp16(
    src: Path,
    dst: Path,
    *,
    keep_fp32: Sequence[str] = DEFAULT_KEEP_FP32,
    force_fp16: Sequence[str] = (),
    seen: Observed | None = None,
) -> dict[str, Any]:
    """Write an FP16 version of the FP32 file `src` to `dst`.

    Args:
        src: FP32 ONNX file.
        dst: FP16 ONNX file; its input and output keep their types (uint8 or float32).
        keep_fp32: operator types, node names or shell patterns of node names that stay FP32.
        force_fp16: the same, for nodes that become FP16 although `keep_fp32` names them.
        seen: activations on real images (`observe_file`). Nodes that would leave FP16's range there
            (`export.precision.half_range`) stay FP32 too. Without it only constants are looked at.

    Stays FP32 whatever `keep_fp32` says: everything between the image and the first convolution or matrix
    product (raw 0..255 values and their normalisation), operators without an FP16 form, nodes with a constant
    beyond +-65504, and divisions whose divisor is kept from 0 by less than FP16 can hold. Neighbouring FP32
    nodes are joined without a round trip through FP16.

    Returns:
        `file`, `bytes`, `seconds`, `nodes`, `fp32_nodes` (type to count), `casts`, `weights`,
        `weights_flushed` (non-zero FP32 weights that are 0 in FP16), `out_of_range` (`Finding.facts` of each
        node that stays FP32 because of its values) and `range_images`, how many images these were looked for on.

    Raises:
        PrecisionError: the file is FP16 or quantised already; a name that is neither an operator type nor
            matches a node; a forced node that leaves FP16's range.
    """
    start = time.perf_counter()
    model = load_fp32(src)
    found = out_of_range(model, seen, keep_fp32, force_fp16)
    facts = halve(model, keep_fp32, nodes={f.node for f in found}, force=force_fp16)
    facts |= {"out_of_range": [f.facts() for f in found], "range_images": seen.images if seen else 0}
    size = graph.save_model(model, Path(dst))
    return {"file": str(dst), "bytes": size, "seconds": time.perf_counter() - start, **facts}


def load_fp32(src: Path) -> onnx.ModelProto:
    """Read an FP32 file, with all shapes inferred.

    Raises:
        PrecisionError: the file is FP16, BF16 or quantised already, holds an operator that ONNX does not
            define, or is not valid.
    """
    model = graph.load_model(Path(src))
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    if any(tensor.data_type in halves for tensor in model.graph.initializer):
        raise PrecisionError(
            f"{Path(src).name} holds FP16 or BF16 weights already",
            "give the FP32 file: quantising FP16 weights loses every scale below FP16's range",
        )
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise PrecisionError(f"{Path(src).name} is quantised already", "give the FP32 file")
    for node in model.graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise PrecisionError(
                f"node {node.name or node.output[0]!r} is a {name}, an operator that ONNX does not define: its "
                "types and its place in a precision are unknown",
                "export the model without it, or keep to fp32 (precision.modes)",
            )
    try:
        graph.infer_shapes(model)
    except ExportError as error:
        raise PrecisionError(
            f"{Path(src).name} is not valid ONNX: {error.what}", "export it again"
        ) from error
    return model


def out_of_range(
    model: onnx.ModelProto, seen: Observed | None, keep_fp32: Sequence[str], force_fp16: Sequence[str]
) -> list[Finding]:
    """Nodes that nothing else keeps FP32 and that leave FP16's range on the images of `seen`.

    Raises:
        PrecisionError: one of them is forced to FP16.
    """
    if seen is None:
        return []
    forced = matching_nodes(model, force_fp16)
    single = _fp32_nodes(model, keep_fp32, force_fp16, (), graph.initializers(model))
    found = [finding for finding in findings(model, seen) if finding.node not in single]
    for finding in found:
        if finding.node in forced:
            raise PrecisionError(
                f"node {finding.node!r} is forced to FP16, but {finding.says()} on {seen.images} calibration images",
                "take it out of force_fp16: it then stays FP32, or choose bf16",
            )
    return found


def halve(
    model: onnx.ModelProto,
    keep_fp32: Sequence[str],
    *,
    nodes: Collection[str] = (),
    force: Sequence[str] = (),
    half: int = TensorProto.FLOAT16,
) -> dict[str, Any]:
    """Convert an FP32 graph (with or without Q/DQ nodes of opset >= 19) to FP16 or BF16 in place.

    Args:
        model: changed in place.
        keep_fp32: as in `to_fp16`.
        nodes: names of nodes that stay FP32 as well.
        force: as `force_fp16` in `to_fp16`.
        half: `TensorProto.FLOAT16` or `BFLOAT16`.

    Returns:
        The counts of `to_fp16`.
    """
    suffix, dtype = ("fp16", np.dtype(np.float16)) if half == TensorProto.FLOAT16 else ("bf16", _bfloat16())
    graph.infer_shapes(model)
    types = graph.value_types(model)
    types.update({output: TensorProto.FLOAT for output in _untyped_outputs(model, types)})
    constants = graph.initializers(model)
    single = _fp32_nodes(model, keep_fp32, force, nodes, constants)
    halves: dict[str, str] = {}
    weights = flushed = 0
    half_of: dict[str, str] = {}  # FP32 tensor -> its FP16 copy
    single_of: dict[str, str] = {}  # FP16 tensor -> its FP32 copy
    produced_half: set[str] = set()
    outputs = {value.name for value in model.graph.output}
    converted: list[onnx.NodeProto] = []

    for node in model.graph.node:
        as_half = node.name not in single
        for index, name in enumerate(node.input):
            if types.get(name) != TensorProto.FLOAT:
                continue
            if name in constants:
                if as_half:
                    if name not in halves:
                        array = numpy_helper.to_array(constants[name])
                        weights += array.size
                        flushed += int(np.count_nonzero((array != 0) & (array.astype(dtype) == 0)))
                        halves[name] = f"{name}_{suffix}"
                    node.input[index] = halves[name]
            elif as_half and name not in produced_half:
                if name not in half_of:
                    half_of[name] = f"{name}_{suffix}"
                    converted.append(_cast(name, half_of[name], half))
                node.input[index] = half_of[name]
            elif not as_half and name in produced_half:
                if name not in single_of:
                    single_of[name] = f"{name}_fp32"
                    converted.append(_cast(name, single_of[name], TensorProto.FLOAT))
                node.input[index] = single_of[name]
        converted.append(node)
        if as_half:
            _halve_attributes(node, half, dtype)
            produced_half.update(name for name in node.output if types.get(name) == TensorProto.FLOAT)

    # Model outputs keep their FP32 type: the half result gets a new name, its cast the published one.
    for name in outputs & produced_half:
        inner = f"{name}_{suffix}_result"
        for node in converted:
            for index, tensor in enumerate(node.input):
                if tensor == name:
                    node.input[index] = inner
            for index, tensor in enumerate(node.output):
                if tensor == name:
                    node.output[index] = inner
        converted.append(_cast(inner, name, TensorProto.FLOAT))

    for name, new in halves.items():
        array = numpy_helper.to_array(constants[name]).astype(dtype)
        graph.set_initializer(model, new, array)
    graph.replace_nodes(model, converted)
    graph.prune(model)
    graph.infer_shapes(model)
    kept: dict[str, int] = {}
    for node in model.graph.node:
        if node.name in single and node.op_type != "Cast":
            kept[node.op_type] = kept.get(node.op_type, 0) + 1
    return {
        "nodes": len(model.graph.node),
        "fp32_nodes": dict(sorted(kept.items())),
        "casts": sum(node.op_type == "Cast" and node.name.startswith(_CASTS) for node in model.graph.node),
        "weights": weights,
        "weights_flushed": flushed,
    }


def _fp32_nodes(
    model: onnx.ModelProto,
    keep_fp32: Sequence[str],
    force: Sequence[str],
    others: Collection[str],
    constants: dict[str, TensorProto],
) -> set[str]:
    names = matching_nodes(model, keep_fp32, known_types=DEFAULT_KEEP_FP32) - matching_nodes(model, force)
    names |= {*graph.preprocessing(model), *others}
    large = {
        name
        for name, tensor in constants.items()
        if tensor.data_type == TensorProto.FLOAT and _beyond_half(numpy_helper.to_array(tensor))
    }
    for node in model.graph.node:
        if node.op_type in _ALWAYS_FP32 or any(name in large for name in node.input):
            names.add(node.name)
    names |= _guards(model, constants)
    # A Q/DQ pair is one unit and follows its tensor into FP16; splitting it would leave two scale types.
    return {
        n.name
        for n in model.graph.node
        if n.name in names and n.op_type not in ("QuantizeLinear", "DequantizeLinear")
    }


def _guards(model: onnx.ModelProto, constants: dict[str, TensorProto]) -> set[str]:
    """Nodes with a scalar that FP16 rounds to 0, up to the division by their result.

    Such a scalar is the epsilon that keeps a divisor from 0; as 0 it would let 0 / 0 through.
    """
    tiny = {
        name
        for name, tensor in constants.items()
        if tensor.data_type == TensorProto.FLOAT
        and math.prod(tensor.dims) == 1
        and 0 < abs(numpy_helper.to_array(tensor).item()) <= _ROUNDS_TO_ZERO
    }
    names: set[str] = set()
    guarded: set[str] = set()
    for node in model.graph.node:
        if any(name in tiny for name in node.input):
            names.add(node.name)
            guarded.update(node.output)
        elif any(name in guarded for name in node.input) and node.op_type in (*_PASSING, "Div", "Reciprocal"):
            names.add(node.name)
            guarded.update(node.output if node.op_type in _PASSING else ())
    return names


def _beyond_half(array: Array) -> bool:
    finite = array[np.isfinite(array)]
    return bool(finite.size and np.abs(finite).max() > LARGEST_HALF)


def _untyped_outputs(model: onnx.ModelProto, types: dict[str, int]) -> Iterable[str]:
    missing = [name for node in model.graph.node for name in node.output if name and name not in types]
    if missing:
        raise PrecisionError(
            f"the types of {len(missing)} tensors cannot be inferred (the first is {missing[0]!r})",
            "the graph holds an operator that is unknown to ONNX; keep FP32 for this model",
        )
    return missing


def _halve_attributes(node: onnx.NodeProto, half: int, dtype: np.dtype[Any]) -> None:
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = half
        elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            value = numpy_helper.to_array(attribute.t).astype(dtype)
            attribute.t.CopyFrom(numpy_helper.from_array(value, attribute.t.name))


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    kinds: dict[int, str] = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
    kind = kinds.get(to, "fp32")
    return onnx.helper.make_node("Cast", [source], [target], f"to_{kind}_{source}", to=to)


def _bfloat16() -> np.dtype[Any]:
    # NumPy has no such type; the one that onnx uses is.
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
