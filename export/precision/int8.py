"""INT8 files from FP32 files, and what is reported of them; the Q/DQ nodes are `export.precision.qdq`'s."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export import graph
from export.cpu_layouts import CpuLayout, cpu_layout
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
from export.precision.qdq import Weights, int8_nodes, quantise_for_onnxruntime, quantise_for_tensorrt
from export.precision.rules import RULES, Layout, kept_out
from export.progress import Progress, no_progress
from export.quiet import quiet

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


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
