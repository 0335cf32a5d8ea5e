"""Activation ranges from real images, in bounded memory and with the same result every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx

from export import graph
from export.errors import PrecisionError
from export.precision.histograms import BINS, entropy_threshold, percentile_bounds
from export.progress import Progress, no_progress
from export.runtime.cpu import usable_cores

MIN_CALIBRATION_IMAGES = 32
"""Fewer images than this give ranges that depend on which ones were drawn."""

Method = Literal["minmax", "entropy", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class Observed:
    """What every float activation of a graph did on the calibration images.

    Attributes:
        extremes: tensor name to the lowest and highest value that occurred.
        counts: tensor name to a histogram, int64 [BINS] over equal bins between minus and plus the largest
            magnitude; empty if none was asked for. Constant zero tensors have none.
        images: how many images were seen.
    """

    extremes: dict[str, tuple[float, float]]
    counts: dict[str, Array]
    images: int


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value to represent, per tensor, and how they were found."""

    bounds: dict[str, tuple[float, float]]
    images: int
    method: str
    percentile: float | None

    def summary(self) -> dict[str, object]:
        """What a report needs."""
        return {"images": self.images, "method": self.method, "percentile": self.percentile}


def check_method(method: str, percentile: float) -> None:
    """Refuse a calibration method that does not exist.

    Raises:
        PrecisionError: unknown method, or a percentile outside (50, 100].
    """
    if method not in METHODS:
        raise PrecisionError(
            f"unknown calibration method {method!r}", f"use {', '.join(METHODS[:-1])} or {METHODS[-1]}"
        )
    if method == "percentile" and not 50.0 < percentile <= 100.0:
        raise PrecisionError(
            f"percentile {percentile} is out of range", "use more than 50, at most 100; 99.99 is usual"
        )


def check_images(
    batches: Iterable[Array], model: onnx.ModelProto, *, least: int = MIN_CALIBRATION_IMAGES
) -> list[Array]:
    """Materialise calibration batches and refuse those that cannot calibrate anything.

    Args:
        batches: arrays [B, ...] of the model's input type, or one array [N, ...].
        model: the graph that they are for.
        least: fewer images are refused.

    Raises:
        PrecisionError: fewer than `least`, wrong type or shape, NaN or infinity, or images
            without content (most of them constant, or all the same).
    """
    arrays = [np.asarray(batch) for batch in ([batches] if isinstance(batches, np.ndarray) else batches)]
    count = sum(len(array) for array in arrays)
    if count < least:
        raise PrecisionError(
            f"{count} calibration images were given; INT8 ranges need at least {least}",
            "give some hundreds of preprocessed training images, never random data",
        )
    value = model.graph.input[0]
    wanted = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    shape = graph.shape_of(value)[1:]
    constant = 0
    first = arrays[0][0]
    same = True
    for array in arrays:
        if array.dtype != wanted or list(array.shape[1:]) != shape:
            raise PrecisionError(
                f"calibration images are {array.dtype} {list(array.shape[1:])}, "
                f"the model takes {wanted} {shape}",
                "give images as the model's evaluation takes them",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise PrecisionError("calibration images contain NaN or infinity", "check the preprocessing")
        flat = array.reshape(len(array), -1)
        constant += int((flat == flat[:, :1]).all(axis=1).sum())
        same = same and bool((array == first).all())
    if same or 2 * constant > count:
        raise PrecisionError(
            f"calibration images have no content: {constant} of {count} are one constant colour"
            + (", and all are identical" if same else ""),
            "give real training images",
        )
    return arrays


def observe(
    model: onnx.ModelProto,
    batches: Sequence[Array],
    *,
    histograms: bool = True,
    progress: Progress = no_progress,
    chunk: int = 16,
) -> Observed:
    """Run the FP32 graph on the images and watch every float activation.

    Args:
        model: FP32 graph; not changed.
        batches: checked arrays (see `check_images`).
        histograms: needed by every method but min-max; they take a second pass over the images, so that
            their limits are known and the result does not depend on the order of the images.
        progress: called after each batch.
        chunk: images a run.

    Raises:
        PrecisionError: the model gives NaN or infinity on these images.
    """
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    names = _observe_all(observed)
    arrays = _regrouped(batches, graph.batch_size(model), chunk)
    passes = 2 if histograms else 1
    session = _session(observed)
    image = model.graph.input[0].name
    float_image = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    watched = [*names, image] if float_image else names

    def values(array: Array) -> Iterator[tuple[str, Array]]:
        outputs = session.run(names, {image: np.ascontiguousarray(array)})
        yield from zip(watched, [*outputs, array] if float_image else outputs, strict=True)

    low = dict.fromkeys(watched, np.inf)
    high = dict.fromkeys(watched, -np.inf)
    for index, array in enumerate(arrays):
        for name, tensor in values(array):
            low[name] = min(low[name], float(tensor.min()))
            high[name] = max(high[name], float(tensor.max()))
        progress(index + 1, passes * len(arrays), "calibrating")
    bad = [name for name in watched if not np.isfinite([low[name], high[name]]).all()]
    if bad:
        raise PrecisionError(
            f"the FP32 model produces NaN or infinity on calibration images (tensor {bad[0]!r})",
            "the model itself is broken; check its training",
        )
    limits = {name: max(-low[name], high[name]) for name in watched}
    counts: dict[str, Array] = {
        name: np.zeros(BINS, np.int64) for name, limit in limits.items() if histograms and limit > 0
    }
    if histograms:
        for index, array in enumerate(arrays):
            for name, tensor in values(array):
                if name in counts:
                    counts[name] += np.histogram(tensor, BINS, (-limits[name], limits[name]))[0]
            progress(len(arrays) + index + 1, passes * len(arrays), "calibrating")
    images = sum(len(array) for array in batches)
    return Observed({name: (low[name], high[name]) for name in watched}, counts, images)


def ranges(observed: Observed, *, method: str, percentile: float = 99.99, signed: bool = True) -> Ranges:
    """The range that INT8 represents of each tensor; zero is always inside.

    Args:
        observed: what `observe` saw, with histograms for every method but min-max.
        method: `"minmax"`: the extremes that occurred. `"percentile"`: see `percentile_bounds`. `"entropy"`:
            the extremes, cut at the magnitude of `entropy_threshold`.
        percentile: in percent; for `"percentile"`.
        signed: the layout has 128 levels for magnitudes whatever their sign (TensorRT's). Otherwise tensors
            without negative values have 256 (ONNX Runtime's unsigned activations).

    Raises:
        PrecisionError: unknown method, or a percentile out of range.
    """
    check_method(method, percentile)
    bounds: dict[str, tuple[float, float]] = {}
    for name, (low, high) in observed.extremes.items():
        if method != "minmax" and name in observed.counts:
            counts, limit = observed.counts[name], max(-low, high)
            if method == "percentile":
                first, last = percentile_bounds(counts, limit, percentile)
                low, high = max(low, first), min(high, last)
            else:
                threshold = entropy_threshold(counts, limit, 128 if signed or low < 0 else 256)
                low, high = max(low, -threshold), min(high, threshold)
        bounds[name] = (min(low, 0.0), max(high, 0.0))
    return Ranges(bounds, observed.images, method, percentile if method == "percentile" else None)


def _observe_all(model: onnx.ModelProto) -> list[str]:
    graph.infer_shapes(model)
    types = graph.value_types(model)
    published = {value.name for value in model.graph.output}
    names = []
    for node in model.graph.node:
        for name in node.output:
            if name and types.get(name) == onnx.TensorProto.FLOAT:
                names.append(name)
                if name not in published:
                    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
                    model.graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return names


def _regrouped(batches: Sequence[Array], fixed: int | None, chunk: int) -> list[Array]:
    """All images in runs of `chunk`, or of the model's fixed batch, the last one filled up."""
    images = np.concatenate(batches)
    if fixed is None:
        return [images[i : i + chunk] for i in range(0, len(images), chunk)]
    rows = np.arange(-(-len(images) // fixed) * fixed) % len(images)
    return [images[rows[i : i + fixed]] for i in range(0, len(rows), fixed)]


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = usable_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # nothing is timed here
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise PrecisionError(
            f"ONNX Runtime cannot run the FP32 file, so nothing can be calibrated: {reason}",
            "export it without the operator that is named",
        ) from error
