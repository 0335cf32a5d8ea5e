"""Protects: ranges come from real images only, and are the right ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime
import pytest

from export import graph
from export.errors import PrecisionError
from export.precision.calibration import check_images, check_method, observe, ranges


def test_unknown_methods_are_refused() -> None:
    """A misspelt method never falls back to another."""
    with pytest.raises(PrecisionError, match=r"unknown calibration method 'magic'.*minmax, entropy or perc"):
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
    """Min-max is exact, whatever the size of the runs."""
    model = graph.load_model(files.fp32)
    found = ranges(observe(model, [files.train[:33]], histograms=False, chunk=5), method="minmax")
    session = onnxruntime.InferenceSession(str(files.fp32), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": files.train[:33]})[0]
    np.testing.assert_allclose(found.bounds["logits"], (logits.min(), logits.max()), rtol=1e-4)
    assert found.images == 33


def test_percentile_cuts_each_tail_by_its_share(files: Any) -> None:
    """The bounds are the quantiles of all values, to the width of a bin."""
    seen = observe(graph.load_model(files.fp32), [files.train[:64]])
    full = ranges(seen, method="percentile", percentile=100.0)
    for name, (low, high) in ranges(seen, method="minmax").bounds.items():
        width = max(-low, high) / 4096
        np.testing.assert_allclose(full.bounds[name], (low, high), atol=1.01 * width)
    cut = ranges(seen, method="percentile", percentile=90.0)
    session = onnxruntime.InferenceSession(str(files.fp32), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": files.train[:64]})[0]
    width = np.abs(logits).max() / 4096
    low, high = cut.bounds["logits"]
    assert abs(low - np.quantile(logits, 0.1)) < 0.1 + width
    assert abs(high - np.quantile(logits, 0.9)) < 0.1 + width


def test_the_three_methods_give_different_scales(files: Any) -> None:
    """ONNX Runtime's entropy calibration was found to equal its min-max; ours must not."""
    seen = observe(graph.load_model(files.fp32), [files.train])
    bounds = {method: ranges(seen, method=method).bounds for method in ("minmax", "entropy", "percentile")}
    limits = {m: np.array([max(-low, high) for low, high in b.values()]) for m, b in bounds.items()}
    for one, other in (("minmax", "entropy"), ("minmax", "percentile"), ("entropy", "percentile")):
        assert (np.abs(limits[one] / limits[other] - 1) > 1e-3).mean() > 0.5, (one, other)
    for method in ("entropy", "percentile"):
        assert (limits[method] <= limits["minmax"]).all()
        assert (limits[method] > 0.05 * limits["minmax"]).all()


def test_a_higher_percentile_never_narrows(files: Any) -> None:
    """More of the tail is kept, tensor by tensor."""
    seen = observe(graph.load_model(files.fp32), [files.train[:64]])
    found = [ranges(seen, method="percentile", percentile=p).bounds for p in (99.0, 99.9, 99.99, 100.0)]
    for narrow, wide in itertools.pairwise(found):
        for name, (low, high) in narrow.items():
            assert wide[name][0] <= low <= 0 <= high <= wide[name][1]


def test_a_fixed_batch_sees_every_image(files: Any) -> None:
    """Padding a batch with repeated images changes no extreme."""
    model = graph.load_model(files.fp32)
    graph.fix_batch(model, 3)
    fixed = observe(model, [files.train[:32]], histograms=False)
    free = observe(graph.load_model(files.fp32), [files.train[:32]], histograms=False)
    for name, extremes in free.extremes.items():
        np.testing.assert_allclose(fixed.extremes[name], extremes, rtol=1e-4, atol=1e-5)
