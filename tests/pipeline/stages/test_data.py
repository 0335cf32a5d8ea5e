"""The data stage: which size is stored, and what its line says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.stages.data import STAGE
from tests.pipeline.conftest import FONTS


@pytest.mark.parametrize(("dataset", "size", "stored"), [("cifar100", 32, 32), ("cub200", 224, 256)])
def test_stored_size(dataset: str, size: int, stored: int) -> None:
    """Photographs get the customary margin; small images of one size are stored as they are, not enlarged."""
    overrides = (
        f"data.dataset={dataset}",
        "data.root=x",
        "data.options={}",
        f"data.image_size={size}",
        "data.store_size=null",
    )
    arguments = STAGE.arguments(load_config(FONTS, overrides), "")
    assert arguments["store_size"] == stored


def test_the_line_says_what_is_missing(tmp_path: Path) -> None:
    """Images that were left out and lists that are shorter than published are told at once."""
    facts = {"classes": 2, "counts": {"train": 3, "test": 1}, "skipped": [{}]}
    (tmp_path / "data.json").write_text(json.dumps(facts))
    assert STAGE.summary(tmp_path) == "2 classes: 3 train, 1 test images, 1 files skipped"
    (tmp_path / "data.json").write_text(json.dumps(facts | {"notes": ["3 train images are listed"]}))
    assert STAGE.summary(tmp_path).endswith("1 files skipped; 3 train images are listed")


def test_the_line_says_what_decoding_did(tmp_path: Path) -> None:
    """No content is lost without a word: the scale of deep images, and what was done to how many, with an example."""
    decoding = {
        "levels": {"integer": [0, 4095]},
        "remarks": {"first_of_several": {"images": 2, "example": "a/scan.tif"}},
    }
    facts = {"classes": 2, "counts": {"train": 3, "test": 1}, "skipped": [], "decoding": decoding}
    (tmp_path / "data.json").write_text(json.dumps(facts))
    assert STAGE.summary(tmp_path) == (
        "2 classes: 3 train, 1 test images; integers of more than 8 bits: 0 is black, 4,095 is white; "
        "several pages or frames, the first one used: 2 images, e.g. a/scan.tif"
    )
