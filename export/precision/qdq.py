"""Q/DQ nodes in an FP32 graph, in the two layouts that TensorRT and ONNX Runtime's CPU provider want.

Which layer is treated how, and why, is in `export.precision.rules`; here are the steps. Files are
`export.precision.int8`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export import graph
from export.contract import mark_layout
from export.cpu_layouts import CpuLayout
from export.errors import PrecisionError
from export.precision.calibration import Ranges
from export.precision.rules import (
    WEIGHTED,
    Layout,
    fit_saturation,
    float_logits,
    has_attention,
    kept_out,
    place_residual_additions,
)
from export.quiet import quiet

_MIN_QDQ_HALF_OPSET = 19
# FP16's subnormals are multiples of 2**-24; a scale of at least 16 of them is off by at most 3 %.
_MIN_HALF_SCALE = 2.0**-20

Weights = Literal["per_channel", "per_tensor"]


def quantise_for_tensorrt(
    model: onnx.ModelProto,
    found: Ranges,
    *,
    excluded: Collection[str] = (),
    weights: Weights = "per_channel",
    without_rules: Collection[str] = (),
) -> onnx.ModelProto:
    """Q/DQ nodes in TensorRT's layout, every value still FP32; `halve` makes the remainder FP16.

    Weights and activations are quantised symmetrically with zero point 0, biases not at all. The graph is
    quantised in FP32 and only then converted to FP16: the other order loses scales below FP16's range.

    Args:
        model: FP32 graph with shapes (see `load_fp32`); not changed.
        found: a range for each tensor that is quantised.
        excluded: names of nodes that stay out of INT8, beside those that the rules keep out.
        weights: one scale an output channel, or one a tensor.
        without_rules: optional rules that are not followed.

    Raises:
        PrecisionError: an opset below 19, or no node is left to quantise.
    """
    if graph.opset(model) < _MIN_QDQ_HALF_OPSET:
        raise PrecisionError(
            f"the graph has opset {graph.opset(model)}; FP16 Q/DQ needs {_MIN_QDQ_HALF_OPSET}",
            "export with opset 20",
        )
    from onnxruntime.quantization import QuantType

    skipped = _skipped(model, "tensorrt", excluded, without_rules)
    source = onnx.ModelProto()
    source.CopyFrom(model)
    _limit_weight_scales(source, weights, skipped)
    found = _limit_activation_scales(found)
    quantised = _quantise(
        source,
        found,
        nodes=[n.name for n in model.graph.node if n.op_type in WEIGHTED and n.name not in skipped],
        op_types=list(WEIGHTED),
        activation=QuantType.QInt8,
        weights=weights,
        reduce_range=False,
        options={
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": False,
            "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
            "MatMulConstBOnly": True,
        },
    )
    place_residual_additions(quantised, found, int8_nodes(quantised))
    graph.infer_shapes(quantised)
    mark_layout(quantised, model, None)
    return quantised


def quantise_for_onnxruntime(
    model: onnx.ModelProto,
    found: Ranges,
    *,
    excluded: Collection[str] = (),
    weights: Weights = "per_channel",
    without_rules: Collection[str] = (),
    cpu: CpuLayout,
) -> onnx.ModelProto:
    """Q/DQ nodes in the layout that ONNX Runtime's CPU fuses; the rest stays FP32.

    Args:
        model: FP32 graph with shapes (see `load_fp32`); not changed.
        found: a range for each tensor that is quantised.
        excluded: names of nodes that stay FP32, beside those that the rules keep out.
        weights: one scale an output channel, or one a tensor.
        without_rules: optional rules that are not followed.
        cpu: the layout. Graphs with attention have signed, symmetric activations in each (rule `attention`).

    Raises:
        PrecisionError: no node is left to quantise.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    types = sorted({*QLinearOpsRegistry, *QDQRegistry})
    skipped = _skipped(model, "onnxruntime", excluded, without_rules)
    attention = has_attention(model)
    quantised = _quantise(
        model,
        fit_saturation(model, found),
        nodes=[n.name for n in model.graph.node if n.op_type in types and n.name not in skipped],
        op_types=types,
        activation=QuantType.QInt8 if attention or cpu.activations == "int8" else QuantType.QUInt8,
        weights=weights,
        reduce_range=cpu.weight_bits == 7,
        options={
            "ActivationSymmetric": attention,
            "MatMulConstBOnly": True,
            "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"] if attention else [],
        },
    )
    float_logits(quantised)
    graph.infer_shapes(quantised)
    mark_layout(quantised, model, cpu)
    return quantised


def _skipped(
    model: onnx.ModelProto, layout: Layout, excluded: Collection[str], without_rules: Collection[str]
) -> set[str]:
    return set(excluded).union(*kept_out(model, layout, without=without_rules).values())


def _quantise(
    model: onnx.ModelProto,
    found: Ranges,
    *,
    nodes: list[str],
    op_types: list[str],
    activation: Any,
    weights: Weights,
    reduce_range: bool,
    options: dict[str, Any],
) -> onnx.ModelProto:
    if not nodes:
        raise PrecisionError("no node is left to quantise", "exclude less")
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in found.bounds.items()
    }
    source = onnx.ModelProto()
    source.CopyFrom(model)
    extra = {
        "WeightSymmetric": True,
        "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
        **options,
    }
    try:
        with quiet():
            quantizer = QDQQuantizer(
                source,
                weights == "per_channel",
                reduce_range,
                QuantType.QInt8,
                activation,
                TensorsData(CalibrationMethod.MinMax, data),
                nodes,
                [],
                op_types,
                extra,
            )
            quantizer.quantize_model()
    except Exception as error:
        raise PrecisionError(
            f"the graph cannot be quantised: {error}", "exclude the layer that is named"
        ) from error
    result: onnx.ModelProto = quantizer.model.model
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    graph.order_nodes(result)
    graph.prune(result)
    graph.infer_shapes(result)
    return result


def _limit_activation_scales(found: Ranges) -> Ranges:
    """Widen ranges so narrow that FP16 could not hold their scale."""
    smallest = 127 * _MIN_HALF_SCALE
    bounds = {
        name: (low, high) if max(-low, high) >= smallest else (-smallest, smallest)
        for name, (low, high) in found.bounds.items()
    }
    return dataclasses.replace(found, bounds=bounds)


def _limit_weight_scales(model: onnx.ModelProto, weights: Weights, excluded: Collection[str]) -> None:
    """Flush output channels (or tensors) whose scale FP16 cannot hold: one that rounds to 0 would divide by 0.

    The largest weight of such a channel is below 127 * 2**-20 (1.2e-4), and a Q/DQ pair on a constant takes
    its scale from the weights themselves, so one element is raised to that magnitude; it changes an output by
    at most 1.2e-4 times one activation.
    """
    readers = graph.consumers(model)
    smallest = 127 * _MIN_HALF_SCALE
    for tensor in list(model.graph.initializer):
        quantising = [node for node in readers.get(tensor.name, []) if node.name not in excluded]
        axis = next((a for n in quantising if (a := _channel_axis(n, tensor.name)) is not None), None)
        if axis is None or tensor.data_type != TensorProto.FLOAT:
            continue
        weight = np.moveaxis(numpy_helper.to_array(tensor), axis, 0).copy()
        flat = weight.reshape(len(weight) if weights == "per_channel" else 1, -1)
        low = np.abs(flat).max(axis=1) < smallest
        if low.any():
            rows = np.nonzero(low)[0]
            columns = np.abs(flat[rows]).argmax(axis=1)
            signs = np.where(flat[rows, columns] < 0, -1.0, 1.0)
            flat[rows, columns] = (signs * smallest).astype(np.float32)
            graph.set_initializer(model, tensor.name, np.moveaxis(flat.reshape(weight.shape), 0, axis))


def _channel_axis(node: onnx.NodeProto, name: str) -> int | None:
    if len(node.input) < 2 or node.input[1] != name:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if graph.attributes(node).get("transB", 0) else 1
    return 1 if node.op_type == "MatMul" else None


def int8_nodes(quantised: onnx.ModelProto) -> set[str]:
    """Names of the convolutions and products that an engine computes in INT8: both factors are dequantised.

    Read off the result: the quantiser leaves some candidates alone, such as products of two activations.
    """
    made = graph.producers(quantised)
    return {
        node.name
        for node in quantised.graph.node
        if node.op_type in WEIGHTED
        and all(name in made and made[name].op_type == "DequantizeLinear" for name in node.input[:2])
    }
