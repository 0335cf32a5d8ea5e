"""`image_to_class` decodes the user's own files, and says what it decoded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.places.images import UINT8_NHWC, Images
from pipeline.places.pictures import pictures_of
from pipeline.report.latency_words import meaning
from pipeline.results.latency import Decoded, Latency

STORED = np.random.default_rng(0).integers(0, 256, (3, 10, 10, 3), np.uint8)
IMAGES = Images(STORED, 8, UINT8_NHWC, None)


def _file(size: tuple[int, int], form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (9, 99, 200)).save(buffer, form)
    return buffer.getvalue()


def _row(decoded: Decoded | None) -> Latency:
    return Latency(
        batch=1, boundary="image_to_class", n=1, min=1, mean=1, median=1, p90=1, p95=1, p99=None, max=1, std=0,
        cv_percent=0, throughput=1, drift_percent=None, samples="x", decoded=decoded,
    )  # fmt: skip


def test_files_are_taken_as_they_are() -> None:
    given = [_file((1000, 400), "JPEG"), _file((2000, 1000), "JPEG"), _file((600, 500), "PNG"), b"a raw file"]
    found = pictures_of(IMAGES, given, {"integer": (0.0, 4095.0)})
    assert list(found.encoded) == given[:3] and found.refused
    assert (found.preprocessing.side, found.preprocessing.size) == (10, 8)
    assert found.preprocessing.levels == {"integer": (0.0, 4095.0)}
    facts = found.facts()
    assert (facts.source, facts.n, facts.formats) == ("files", 3, {"JPEG": 2, "PNG": 1})
    assert facts.median_megapixels == pytest.approx(0.4)
    said = meaning("image_to_class", [_row(facts)])
    assert "3 files of the test images: 2 JPEG, 1 PNG; in the median 0.4 megapixels" in said


@pytest.mark.parametrize("given", [[], [b"a raw file"]])
def test_without_files_prepared_images_are_encoded_and_the_report_says_so(given: list[bytes]) -> None:
    found = pictures_of(IMAGES, given, {})
    assert len(found.encoded) == 3 and found.source == "stored" and bool(found.refused) == bool(given)
    assert "a camera's file takes longer" in meaning("image_to_class", [_row(found.facts())])


def test_a_result_that_does_not_say_claims_nothing(tmp_path: Path) -> None:
    said = meaning("image_to_class", [_row(None)])
    assert said == "decoding of an image file, resize, inference and argmax of one image"
