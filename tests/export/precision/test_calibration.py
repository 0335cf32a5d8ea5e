"""Protects: ranges come from real images only, and are the right ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from export import graph
from export.errors import PrecisionError
from export.precision.calibration import activation_ranges, check_images, check_method


def test_entropy_is_refused_with_the_reason() -> None:
    with pytest.raises(PrecisionError, match=r"min-max ranges unchanged.*use 'minmax' or 'percentile'"):
        check_method("entropy", 99.9)
    with pytest.raises(PrecisionError, match="unknown calibration method"):
        check_method("magic", 99.9)
    with pytest.raises(PrecisionError, match="out of range"):
        check_method("percentile", 10.0)


def test_unusable_images_are_refused(files: Any) -> None:
    model = graph.load_model(files.fp32)
    good = files.train[:40]
    assert sum(map(len, check_images([good[:20], good[20:]], model))) == 40
    cases = {
        "need at least 32": good[:31],
        "model takes uint8": good.astype(np.float32),
        r"\[16, 16, 3\]": good[:, :16, :16],
        "no content: 40 of 40": np.repeat(np.arange(40, dtype=np.uint8), 32 * 32 * 3).reshape(40, 32, 32, 3),
        "all are identical": np.repeat(good[:1], 40, axis=0),
    }
    for message, images in cases.items():
        with pytest.raises(PrecisionError, match=message):
            check_images(images, model)


def test_nan_is_refused(files: Any, tmp_path: Any) -> None:
    model = graph.load_model(files.fp32)
    model.graph.input[0].type.tensor_type.elem_type = 1
    images = files.train[:40].astype(np.float32)
    images[7, 3, 3, 1] = np.nan
    with pytest.raises(PrecisionError, match="NaN"):
        check_images(images, model)


def test_minmax_ranges_are_the_extremes(files: Any) -> None:
    model = graph.load_model(files.fp32)
    ranges = activation_ranges(model, [files.train[:33]], method="minmax", percentile=0, chunk=5)
    session = onnxruntime.InferenceSession(str(files.fp32), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": files.train[:33]})[0]
    np.testing.assert_allclose(ranges.bounds["logits"], (logits.min(), logits.max()), rtol=1e-4)
    assert ranges.images == 33


def test_percentile_cuts_each_tail_by_its_share(files: Any) -> None:
    model = graph.load_model(files.fp32)
    images = [files.train[:64]]
    full = activation_ranges(model, images, method="percentile", percentile=100.0)
    extremes = activation_ranges(model, images, method="minmax", percentile=0)
    for name, bounds in extremes.bounds.items():
        np.testing.assert_allclose(full.bounds[name], bounds, rtol=1e-6, atol=1e-9)
    cut = activation_ranges(model, images, method="percentile", percentile=90.0)
    session = onnxruntime.InferenceSession(str(files.fp32), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": files.train[:64]})[0]
    bin_width = (logits.max() - logits.min()) / 8192
    low, high = cut.bounds["logits"]
    assert abs(low - np.quantile(logits, 0.1)) < 0.1 + bin_width
    assert abs(high - np.quantile(logits, 0.9)) < 0.1 + bin_width


def test_a_fixed_batch_sees_every_image(files: Any) -> None:
    model = graph.load_model(files.fp32)
    graph.fix_batch(model, 3)
    fixed = activation_ranges(model, [files.train[:32]], method="minmax", percentile=0)
    free = activation_ranges(graph.load_model(files.fp32), [files.train[:32]], method="minmax", percentile=0)
    for name, bounds in free.bounds.items():
        np.testing.assert_allclose(fixed.bounds[name], bounds, rtol=1e-4, atol=1e-5)
