"""Protects: what is timed from a file to a class is what classifies, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.bundle.pictures import photograph, png_bytes
from export.engines import BACKENDS
from export.errors import ExportError
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.bundle.timing import BOUNDARY, image_to_class, readable
from export.runtime.sampling import Limits, sample

SPEC = Preprocessing(side=32, size=32)
STEPS = ("decode", "resize", "infer", "argmax")


class Recording:
    """An engine that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def infer(self, images: Any) -> Any:
        self.seen.append(images)
        return np.zeros((len(images), 2), np.float32)


def test_the_steps_make_up_the_latency(files: Any) -> None:
    engine = BACKENDS["onnxruntime"].load(files.fp32, threads=1)
    query = image_to_class(engine, [png_bytes(image) for image in files.images[:3]], SPEC)
    samples = sample(query, Limits(0.0, 12, 0.0, 60.0), batch=1, boundary=BOUNDARY)
    assert samples.boundary == "image_to_class" and set(samples.arrays) == {"latency", *STEPS}
    np.testing.assert_allclose(sum(samples.arrays[step] for step in STEPS), samples.latency, rtol=1e-9)
    assert len(samples.latency) == 12
    with pytest.raises(ExportError, match="no encoded images"):
        image_to_class(engine, [], SPEC)


@pytest.mark.parametrize(
    "spec",
    [
        Preprocessing(36, 32, levels={"integer": (0.0, 4095.0)}),
        Preprocessing(36, 32, "float32", (0.5,) * 3, (0.2,) * 3),
    ],
)
def test_the_engine_is_given_the_bundles_input(spec: Preprocessing) -> None:
    """A photograph that must be turned, cropped and resized, in turn with a small PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    encoded = [photograph(pixels, orientation=6), png_bytes(pixels)]
    engine = Recording()
    query = image_to_class(engine, encoded, spec)
    for _ in range(3):
        query()
    for seen, data in zip(engine.seen, [*encoded, encoded[0]], strict=True):
        np.testing.assert_array_equal(seen, spec.batch([spec.view(data)]))


def test_what_cannot_be_decoded_is_left_out_with_a_reason() -> None:
    good = png_bytes(np.zeros((8, 8, 3), np.uint8))
    assert readable([good, b"no image", b"", good], SPEC) == (
        [good, good],
        "this is no image that can be identified",
    )
    assert readable([good], SPEC) == ([good], "")
