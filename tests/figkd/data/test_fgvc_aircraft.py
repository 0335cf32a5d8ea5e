"""FGVC-Aircraft 2013b in its published layout, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from figkd.data import class_names
from figkd.errors import DataError
from tests.figkd.data.examined import check
from tests.figkd.data.published import BLUE, RED, given, labels_and_ids, lines, only, picture, prepared

VARIANTS = ["707-320", "A340-500", "F-16A/B"]
FAMILIES = {"707-320": "Boeing 707", "A340-500": "A340", "F-16A/B": "F-16"}
MAKERS = {"707-320": "Boeing", "A340-500": "Airbus", "F-16A/B": "Lockheed Martin"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """2 images a variant and split; the aircraft is in rows 10 to 39, the banner in rows 40 to 59."""
    data = tmp_path / "planes" / "fgvc-aircraft-2013b" / "data"
    boxes = []
    number = 34309
    for split in ("train", "val", "test"):
        rows = []
        for variant in VARIANTS:
            for _ in range(2):
                number += 7
                picture(data / "images" / f"{number:07d}.jpg", RED, (0, 0, 40, 40))
                rows.append((f"{number:07d}", variant))
                boxes.append(f"{number:07d} 1 11 40 40")
        for level, names in (("family", FAMILIES), ("manufacturer", MAKERS)):
            lines(data / f"images_{level}_{split}.txt", *(f"{image} {names[v]}" for image, v in rows))
        lines(data / f"images_variant_{split}.txt", *(f"{image} {v}" for image, v in rows))
    lines(data / "images_box.txt", *boxes)
    lines(data / "variants.txt", *VARIANTS)
    lines(data / "families.txt", *FAMILIES.values())
    lines(data / "manufacturers.txt", *sorted(MAKERS.values()))
    return tmp_path / "planes"


def test_published_layout(root: Path, tmp_path: Path) -> None:
    """Protects the three official splits, labels in the published order, names with spaces and slashes."""
    said = prepared("fgvc_aircraft", root, tmp_path / "out")
    assert said["counts"] == {"train": 6, "val": 6, "test": 6}
    assert class_names(tmp_path / "out") == VARIANTS
    found = labels_and_ids(tmp_path / "out", "val")
    assert [label for label, _ in found] == [0, 0, 1, 1, 2, 2]
    assert found[0] == (0, "images/0034358.jpg")


def test_levels(root: Path, tmp_path: Path) -> None:
    """Protects the other two levels of labels."""
    prepared("fgvc_aircraft", root, tmp_path / "family", level="family")
    assert class_names(tmp_path / "family") == ["Boeing 707", "A340", "F-16"]
    prepared("fgvc_aircraft", root, tmp_path / "maker", level="manufacturer")
    assert class_names(tmp_path / "maker") == ["Airbus", "Boeing", "Lockheed Martin"]
    assert [label for label, _ in labels_and_ids(tmp_path / "maker", "test")] == [1, 1, 0, 0, 2, 2]
    assert "level is 'color'; one of variant, family" in check("fgvc_aircraft", root, {"level": "color"})[0]


def test_the_banner_is_cut(root: Path, tmp_path: Path) -> None:
    """Protects against learning photographers' names: the lowest 20 rows are not seen."""
    prepared("fgvc_aircraft", root, tmp_path / "out")
    assert only(tmp_path / "out", RED)
    prepared("fgvc_aircraft", root, tmp_path / "whole", cut_banner=False)
    assert not only(tmp_path / "whole", RED)


def test_boxes(root: Path, tmp_path: Path) -> None:
    """Protects crop_boxes: corners that count from 1; a box that reaches into the banner ends above it."""
    data = root / "fgvc-aircraft-2013b" / "data"
    text = (data / "images_box.txt").read_text()
    (data / "images_box.txt").write_text(text.replace(" 1 11 40 40", " 1 41 40 60"))
    prepared("fgvc_aircraft", root, tmp_path / "low", crop_boxes=True, cut_banner=False)
    assert only(tmp_path / "low", BLUE)
    (data / "images_box.txt").write_text(text.replace(" 1 11 40 40", " 1 31 40 60"))
    prepared("fgvc_aircraft", root, tmp_path / "cut", crop_boxes=True)
    assert only(tmp_path / "cut", RED)


def test_merged_validation(root: Path, tmp_path: Path) -> None:
    """Protects merge_val: train and validation together, from which a new validation split is held out."""
    said = prepared("fgvc_aircraft", root, tmp_path / "out", merge_val=True)
    assert given(said) == {"train": 12, "test": 6}
    assert "12 train images are listed, the published list has 6,667" in said["notes"]


def test_missing_and_malformed(root: Path, tmp_path: Path) -> None:
    """Protects: what is missing is named with the download; a name of no class is named with its image."""
    data = root / "fgvc-aircraft-2013b" / "data"
    lines(data / "images_variant_val.txt", "0034358 707-200")
    with pytest.raises(DataError, match=r"images_variant_val\.txt: '707-200' of image 0034358"):
        prepared("fgvc_aircraft", root, tmp_path / "out")
    (data / "images_variant_val.txt").unlink()
    problem = check("fgvc_aircraft", root)[0]
    assert "lacks images_variant_val.txt; figkd-pipeline download fgvc_aircraft ROOT" in problem
    assert "<root>/data/images/0034309.jpg" in problem
