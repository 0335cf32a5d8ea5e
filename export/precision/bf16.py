"""BF16 files: FP32's range with 8 bits of precision, for engines that compute in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, version_converter

from export import graph
from export.errors import PrecisionError
from export.precision.fp16 import DEFAULT_KEEP_FP32, halve, load_fp32

BF16_OPSET = 22
"""The first opset in which convolutions, poolings and hard-swish take bfloat16."""

# TensorRT's parser takes these in FP32 and FP16 only (TensorRT-RTX 1.7).
_NOT_IN_BF16 = ("HardSwish", "HardSigmoid")


def to_bf16(src: Path, dst: Path, *, keep_fp32: Sequence[str] = DEFAULT_KEEP_FP32) -> dict[str, Any]:
    """Write a BF16 version of the FP32 file `src` to `dst`.

    Args:
        src: FP32 ONNX file.
        dst: BF16 ONNX file of opset `BF16_OPSET` or later; its input and output keep their types.
        keep_fp32: as in `to_fp16`. The reason is another: sums in 8 bits lose small terms.

    BF16 has FP32's exponents, so nothing overflows and no range is checked. Hard-swish and hard-sigmoid stay
    FP32, because TensorRT does not take them in BF16.

    Returns:
        As `to_fp16`, without the range check.

    Raises:
        PrecisionError: the file is not FP32, or its operators cannot be brought to opset `BF16_OPSET`.
    """
    start = time.perf_counter()
    model = load_fp32(src)
    if graph.opset(model) < BF16_OPSET:
        try:
            model = version_converter.convert_version(model, BF16_OPSET)
        except Exception as error:
            raise PrecisionError(
                f"{Path(src).name} cannot be brought to opset {BF16_OPSET}, which BF16 needs: {error}",
                "take bf16 out of precision.modes",
            ) from error
        graph.infer_shapes(model)
    single = {node.name for node in model.graph.node if node.op_type in _NOT_IN_BF16}
    facts = halve(model, keep_fp32, nodes=single, half=TensorProto.BFLOAT16)
    size = graph.save_model(model, Path(dst))
    return {"file": str(dst), "bytes": size, "seconds": time.perf_counter() - start, **facts}


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """A BF16 graph that FP32 engines run: weights and every result are rounded to BF16, sums are FP32.

    This is what a device does whose products of BF16 are accumulated in FP32. ONNX Runtime's CPU has no BF16
    kernels for convolutions and products, so a BF16 file's accuracy is that of its emulation there.

    Args:
        model: what `to_bf16` wrote; not changed.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    types = graph.value_types(model)
    for tensor in list(result.graph.initializer):
        if tensor.data_type == TensorProto.BFLOAT16:
            graph.set_initializer(result, tensor.name, numpy_helper.to_array(tensor).astype(np.float32))
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
            elif attribute.name == "value" and attribute.t.data_type == TensorProto.BFLOAT16:
                value = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(value, attribute.t.name))
        nodes.append(node)
        for index, name in enumerate(node.output):
            if types.get(name) == TensorProto.BFLOAT16:
                exact, rounded = f"{name}_exact", f"{name}_rounded"
                node.output[index] = exact
                nodes.append(
                    onnx.helper.make_node("Cast", [exact], [rounded], rounded, to=TensorProto.BFLOAT16)
                )
                nodes.append(onnx.helper.make_node("Cast", [rounded], [name], name, to=TensorProto.FLOAT))
    graph.replace_nodes(result, nodes)
    graph.infer_shapes(result)
    return result
