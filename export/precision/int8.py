"""INT8 files as explicit Q/DQ, in the two layouts that TensorRT and ONNX Runtime's CPU provider want.

Which layer is treated how, and why, is in `export.precision.rules`; here are the steps.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export import graph
from export.contract import mark_layout
from export.cpu_layouts import CpuLayout, cpu_layout
from export.errors import PrecisionError
from export.machine import architecture, cpu_features
from export.macs import multiply_adds
from export.precision.calibration import (
    MIN_CALIBRATION_IMAGES,
    Observed,
    Ranges,
    check_images,
    check_method,
    observe,
    ranges,
)
from export.precision.fp16 import DEFAULT_KEEP_FP32, halve, load_fp32, out_of_range
from export.precision.names import matching_nodes
from export.precision.rules import (
    RULES,
    WEIGHTED,
    Layout,
    fit_saturation,
    float_logits,
    has_attention,
    kept_out,
    place_residual_additions,
)
from export.progress import Progress, no_progress
from export.quiet import quiet

_MIN_QDQ_HALF_OPSET = 19
# FP16's subnormals are multiples of 2**-24; a scale of at least 16 of them is off by at most 3 %.
_MIN_HALF_SCALE = 2.0**-20

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


Weights = Literal["per_channel", "per_tensor"]


def to_int8_tensorrt(
    src: Path,
    dst: Path,
    calibration: Iterable[Array] | Observed,
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    weights: Weights = "per_channel",
    exclude: Sequence[str] = (),
    without_rules: Collection[str] = (),
    returned: Collection[str] = (),
    keep_fp32: Sequence[str] = DEFAULT_KEEP_FP32,
    force_fp16: Sequence[str] = (),
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write an INT8 Q/DQ file for strongly typed TensorRT: INT8 convolutions and products, the rest FP16.

    Args:
        src: FP32 ONNX file of opset 19 or later.
        dst: where to write.
        calibration: batches [B, ...] of at least `MIN_CALIBRATION_IMAGES` real, preprocessed images (or one
            array), or what `observe_file` saw on them.
        method: `"minmax"`, `"entropy"` or `"percentile"`.
        percentile: for `"percentile"`, per side, in percent.
        weights: one scale an output channel, or one a tensor.
        exclude: operator types, node names, weight names or shell patterns of these that stay FP16.
        without_rules: optional rules of `RULES` that are not followed.
        returned: names of nodes that a search for mixed precision takes out of INT8 (`Outcome.nodes`).
        keep_fp32: as in `to_fp16`. Nodes that leave FP16's range stay out of INT8, and FP32.
        force_fp16: as in `to_fp16`.
        progress: called as calibration goes on.

    The steps are functions of their own: `load_fp32`, `observe`, `ranges`, `quantise_for_tensorrt` (Q/DQ, all
    values FP32), `halve`, `finish`.

    Returns:
        `file`, `bytes`, `seconds`, `quantised_nodes` (type to count), `qdq_pairs`, `excluded`, `calibration`,
        `weights_scale`, `rules` (name to what it kept out), `macs`, `int8_macs_percent`, and what `to_fp16`
        returns. What is kept out has `nodes`, `products` and their share of the work, `macs_percent`.

    Raises:
        PrecisionError: unusable calibration data or method, an `exclude` that matches nothing, a quantised or
            FP16 source, an opset below 19.
    """
    start = time.perf_counter()
    check_method(method, percentile)
    model = load_fp32(src)
    excluded = matching_nodes(model, exclude)
    seen = _observed(model, calibration, method, progress)
    found = ranges(seen, method=method, percentile=percentile, signed=True)
    wide = out_of_range(model, seen, keep_fp32, force_fp16)
    single = {finding.node for finding in wide}
    quantised = quantise_for_tensorrt(
        model, found, excluded=excluded | single | set(returned), weights=weights, without_rules=without_rules
    )
    facts = described(model, quantised, "tensorrt", excluded, weights, without_rules, found)
    facts |= halve(quantised, keep_fp32, nodes=single, force=force_fp16)
    facts |= {"out_of_range": [finding.facts() for finding in wide], "range_images": seen.images}
    return facts | finish(quantised, dst, start)


def to_int8_onnxruntime(
    src: Path,
    dst: Path,
    calibration: Iterable[Array] | Observed,
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    weights: Weights = "per_channel",
    exclude: Sequence[str] = (),
    without_rules: Collection[str] = (),
    returned: Collection[str] = (),
    cpu: CpuLayout | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Write an INT8 Q/DQ file for ONNX Runtime on a CPU.

    Args:
        src: FP32 ONNX file.
        dst: where to write.
        calibration: as in `to_int8_tensorrt`.
        method: as in `to_int8_tensorrt`.
        percentile: as in `to_int8_tensorrt`.
        weights: as in `to_int8_tensorrt`.
        exclude: operator types, node names, weight names or shell patterns of these that stay FP32.
        without_rules: as in `to_int8_tensorrt`.
        returned: as in `to_int8_tensorrt`.
        cpu: the layout that the CPU wants on which the file will run (`cpu_layout`); None is that of this machine.
        progress: called as calibration goes on.

    Returns:
        As `to_int8_tensorrt`, and `cpu` (the layout as plain values).

    Raises:
        PrecisionError: as `to_int8_tensorrt`, but for the opset.
    """
    start = time.perf_counter()
    check_method(method, percentile)
    model = load_fp32(src)
    excluded = matching_nodes(model, exclude)
    seen = _observed(model, calibration, method, progress)
    found = ranges(seen, method=method, percentile=percentile, signed=False)
    cpu = cpu or cpu_layout(architecture(), cpu_features())
    quantised = quantise_for_onnxruntime(
        model,
        found,
        excluded=excluded | set(returned),
        weights=weights,
        without_rules=without_rules,
        cpu=cpu,
    )
    facts = described(model, quantised, "onnxruntime", excluded, weights, without_rules, found)
    facts |= {"nodes": len(quantised.graph.node), "cpu": cpu.facts()}
    return facts | finish(quantised, dst, start)


def observe_file(
    src: Path,
    calibration: Iterable[Array],
    *,
    histograms: bool = True,
    least: int = MIN_CALIBRATION_IMAGES,
    progress: Progress = no_progress,
) -> Observed:
    """Check calibration images and watch the FP32 file `src` on them: for several `to_int8_*` of one file.

    Raises:
        PrecisionError: unusable calibration data, a quantised or FP16 source.
    """
    model = load_fp32(src)
    arrays = check_images(calibration, model, least=least)
    with quiet():
        return observe(model, arrays, histograms=histograms, progress=progress)


def _observed(
    model: onnx.ModelProto, calibration: Iterable[Array] | Observed, method: str, progress: Progress
) -> Observed:
    if isinstance(calibration, Observed):
        return calibration
    arrays = check_images(calibration, model)
    with quiet():
        return observe(model, arrays, histograms=method != "minmax", progress=progress)


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


def described(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    layout: Layout,
    excluded: Collection[str],
    weights: Weights,
    without_rules: Collection[str],
    found: Ranges,
) -> dict[str, Any]:
    """What a report says of a quantised graph, before anything else is done to it."""
    inside = int8_nodes(quantised)
    counts = Counter(node.op_type for node in quantised.graph.node if node.name in inside)
    macs = multiply_adds(model)
    total = max(sum(macs.values()), 1)

    def described_nodes(names: Collection[str]) -> dict[str, Any]:
        products = sorted(set(names) & set(macs))
        return {
            "nodes": sorted(names),
            "products": products,
            "macs_percent": 100.0 * sum(macs[name] for name in products) / total,
        }

    kept = kept_out(model, layout, without=without_rules)
    return {
        "layout": layout,
        "quantised_nodes": dict(sorted(counts.items())),
        "qdq_pairs": sum(node.op_type == "DequantizeLinear" for node in quantised.graph.node),
        "excluded": described_nodes(excluded),
        "rules": {
            rule.name: {"because": rule.because} | described_nodes(kept[rule.name])
            for rule in RULES
            if rule.name in kept
        },
        "macs": total,
        "int8_macs_percent": 100.0 * sum(macs.get(name, 0) for name in inside) / total,
        "weights_scale": weights,
        "calibration": found.summary(),
    }


def finish(quantised: onnx.ModelProto, dst: Path, start: float) -> dict[str, Any]:
    """Write a graph to `dst`; returns `file`, `bytes` and the `seconds` since `start` (`time.perf_counter`)."""
    size = graph.save_model(quantised, Path(dst))
    return {"file": str(dst), "bytes": size, "seconds": time.perf_counter() - start}
