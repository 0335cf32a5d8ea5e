"""Activation ranges from real images, in bounded memory and with the same result every time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx

from export import graph
from export.errors import PrecisionError
from export.progress import Progress, no_progress

MIN_CALIBRATION_IMAGES = 32
"""Fewer images than this give ranges that depend on which ones were drawn."""

Method = Literal["minmax", "percentile"]
_BINS = 8192

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


@dataclass(frozen=True)
class Ranges:
    """Lowest and highest value to represent, per tensor, and how they were found."""

    bounds: dict[str, tuple[float, float]]
    images: int
    method: str
    percentile: float | None

    def summary(self) -> dict[str, Any]:
        """What a report needs."""
        return {"images": self.images, "method": self.method, "percentile": self.percentile}


def check_method(method: str, percentile: float) -> None:
    """Refuse calibration methods that would mislead.

    Raises:
        PrecisionError: unknown method, entropy, or a percentile outside (50, 100].
    """
    if method == "entropy":
        raise PrecisionError(
            "entropy calibration is not offered: ONNX Runtime's version returned the min-max ranges "
            "unchanged in measurements, at several times the cost",
            "use 'minmax' or 'percentile'",
        )
    if method not in ("minmax", "percentile"):
        raise PrecisionError(f"unknown calibration method {method!r}", "use 'minmax' or 'percentile'")
    if method == "percentile" and not 50.0 < percentile <= 100.0:
        raise PrecisionError(
            f"percentile {percentile} is out of range", "use more than 50, at most 100; 99.99 is usual"
        )


def check_images(batches: Iterable[Array], model: onnx.ModelProto) -> list[Array]:
    """Materialise calibration batches and refuse those that cannot calibrate anything.

    Args:
        batches: arrays [B, ...] of the model's input type, or one array [N, ...].
        model: the graph that they are for.

    Raises:
        PrecisionError: fewer than `MIN_CALIBRATION_IMAGES`, wrong type or shape, NaN or infinity, or images
            without content (most of them constant, or all the same).
    """
    arrays = [np.asarray(batch) for batch in ([batches] if isinstance(batches, np.ndarray) else batches)]
    count = sum(len(array) for array in arrays)
    if count < MIN_CALIBRATION_IMAGES:
        raise PrecisionError(
            f"{count} calibration images were given; INT8 ranges need at least {MIN_CALIBRATION_IMAGES}",
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


def activation_ranges(
    model: onnx.ModelProto,
    batches: Sequence[Array],
    *,
    method: str,
    percentile: float,
    progress: Progress = no_progress,
    chunk: int = 16,
) -> Ranges:
    """Run the FP32 graph on the images and find a range for every float activation.

    Args:
        model: FP32 graph; not changed.
        batches: checked arrays (see `check_images`).
        method: `"minmax"`: the extremes that occurred. `"percentile"`: the values below and above which a
            share of `1 - percentile/100` of the elements lies, each side on its own, from a histogram of 8192
            bins between the extremes (a second pass over the images). Zero is always inside the range.
        percentile: in percent; unused by min-max.
        progress: called after each batch.
        chunk: images a run.
    """
    passes = 2 if method == "percentile" else 1
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    names = _observe_all(observed)
    arrays = _regrouped(batches, graph.batch_size(model), chunk)
    session = _session(observed)
    image = model.graph.input[0].name
    low = {name: np.inf for name in names}
    high = {name: -np.inf for name in names}
    for index, array in enumerate(arrays):
        values = session.run(names, {image: np.ascontiguousarray(array)})
        for name, tensor in zip(names, values, strict=True):
            low[name] = min(low[name], float(tensor.min()))
            high[name] = max(high[name], float(tensor.max()))
        progress(index + 1, passes * len(arrays), "calibrating")
    if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
        names = [*names, image]
        low[image] = min(float(array.min()) for array in arrays)
        high[image] = max(float(array.max()) for array in arrays)
    bad = [name for name in names if not np.isfinite([low[name], high[name]]).all()]
    if bad:
        raise PrecisionError(
            f"the FP32 model produces NaN or infinity on calibration images (tensor {bad[0]!r})",
            "the model itself is broken; check its training",
        )
    if method == "percentile":
        counts = {name: np.zeros(_BINS, np.int64) for name in names}
        for index, array in enumerate(arrays):
            values = session.run([n for n in names if n != image], {image: np.ascontiguousarray(array)})
            if image in counts:
                values.append(array)
            for name, tensor in zip(names, values, strict=True):
                if high[name] > low[name]:
                    counts[name] += np.histogram(tensor, _BINS, (low[name], high[name]))[0]
            progress(len(arrays) + index + 1, passes * len(arrays), "calibrating")
        for name in names:
            low[name], high[name] = _percentile_bounds(counts[name], low[name], high[name], percentile)
    bounds = {name: (min(low[name], 0.0), max(high[name], 0.0)) for name in names}
    images = sum(len(array) for array in batches)
    return Ranges(bounds, images, method, percentile if method == "percentile" else None)


def _percentile_bounds(counts: Array, low: float, high: float, percentile: float) -> tuple[float, float]:
    total = int(counts.sum())
    if total == 0:
        return low, high
    edges = np.linspace(low, high, len(counts) + 1)
    allowed = total * (1.0 - percentile / 100.0)
    from_left, from_right = np.cumsum(counts), np.cumsum(counts[::-1])
    first = int(np.searchsorted(from_left, allowed, side="right"))
    last = len(counts) - int(np.searchsorted(from_right, allowed, side="right"))
    return float(edges[first]), float(edges[max(last, first + 1)])


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
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
