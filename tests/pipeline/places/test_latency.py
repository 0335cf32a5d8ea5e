"""What is measured of an engine: each way that the plan asks for, as one row with its raw samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from export.engines.protocol import Array, Samples
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.sampling import Limits, sample_query
from pipeline.places.latency import Case, Plan, measure_engines, statistics
from pipeline.places.pictures import Pictures, encode
from pipeline.results.latency import BenchmarkRow


class Sleeper:
    """An engine that takes a fixed time."""

    batch_sizes = (1, 4)
    input_shape = (8, 8, 3)
    input_dtype = "uint8"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def infer(self, images: Array) -> Array:
        time.sleep(self.seconds)
        return np.zeros((len(images), 2), np.float32)

    def queries(
        self, batch: Array, *, boundary: str = "engine", streams: int = 1
    ) -> list[Callable[[], None]]:
        return [lambda: time.sleep(self.seconds)] * streams

    def time(self, batch: Array, limits: Limits, *, boundary: str = "engine") -> Samples:
        return sample_query(self.queries(batch)[0], limits, batch=len(batch), boundary=boundary)


def _measure(seconds: float = 0.002, **plan: Any) -> dict[tuple[Any, ...], BenchmarkRow]:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    limits = {"warmup_s": 0.0, "min_samples": 8, "min_seconds": 0.0, "max_seconds": 60.0, "rounds": 2}
    engines: Any = {"cpu/a": Sleeper(seconds)}
    steps: list[tuple[int, int]] = []
    pictures = Pictures([encode(image) for image in images], Preprocessing(8, 8), "stored")
    found = measure_engines(
        engines, pictures, {"cpu/a": images}, plan=Plan(**limits | plan),
        progress=lambda done, total, _: steps.append((done, total)),
    )  # fmt: skip
    assert steps[-1][0] == steps[-1][1] == len(steps)
    for row in found.statistics:
        latency = found.samples[row.samples]["latency"]
        assert len(latency) == row.n and row.mean == pytest.approx(latency.mean())
    return {(r.boundary, r.batch, r.streams, r.rate_fps): r for r in found.statistics}


def test_batches_boundaries_and_streams() -> None:
    """Streams at the first batch size only; the path from an image is of one image, by step."""
    rows = _measure(batch_sizes=(4, 1), streams=(1, 2))
    assert set(rows) == {
        ("engine", 4, 1, None), ("engine", 4, 2, None), ("engine", 1, 1, None),
        ("engine+copies", 4, 1, None), ("engine+copies", 4, 2, None), ("engine+copies", 1, 1, None),
        ("image_to_class", 1, 1, None),
    }  # fmt: skip
    assert set(rows["image_to_class", 1, 1, None].median_of_parts_ms) == {
        "decode", "resize", "infer", "argmax",
    }  # fmt: skip
    both = rows["engine", 4, 2, None]
    # Little's law, which holds on a busy machine too: as many are under way as there are streams.
    assert both.throughput / both.batch * both.mean / 1000 > 1.2


def test_a_fixed_rate_is_one_more_row_for_each_path() -> None:
    """Of the smallest batch; the length is that of the config."""
    rows = _measure(boundaries=("engine", "image_to_class"), rate_fps=20.0, rate_seconds=0.5)
    for boundary in ("engine", "image_to_class"):
        row = rows[boundary, 1, 1, 20.0]
        assert row.n == 10 and row.keeps_rate and row.throughput < 25
        assert {"wait", "service"} == set(row.median_of_parts_ms)
    slow = _measure(0.02, boundaries=("engine",), rate_fps=100.0, rate_seconds=0.1)
    row = slow["engine", 1, 1, 100.0]
    assert not row.keeps_rate and row.warnings[0].code == "rate_not_kept"


def test_a_rate_without_a_length_takes_what_a_p99_needs() -> None:
    """1,000 arrivals, and time for a device that is too slow."""
    limits = Plan(rate_fps=50).rate_limits
    assert limits.min_samples == 1000 and limits.max_seconds == pytest.approx(40)


def test_a_clock_with_coarse_steps_is_in_the_row_and_said() -> None:
    """A number that cannot be told from its neighbours is not shown as if it could."""
    case = Case("t/e", 1, "engine")
    for step, warned in ((0.0, False), (0.0009, False), (0.004, True)):
        row = statistics(case, Samples({"latency": np.full(20, 0.2)}, 1, "engine", 1.0, resolution_ms=step))
        assert row.resolution_ms == step
        assert any(warning.code == "coarse_clock" for warning in row.warnings) is warned
