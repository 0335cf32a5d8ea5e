"""Protects the study's rendered data sets: what is read of the packages, and samples that are the same each time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks" / "study"
sys.path.insert(0, str(FOLDER))

import drawing  # noqa: E402
import fetch_characters  # noqa: E402
import fetch_emoji  # noqa: E402


def test_a_drawing_is_found_under_its_aliases_too() -> None:
    """Protects the faces that a set knows by another name, and each drawing's own size."""
    icons = {
        "width": 64,
        "icons": {"cat": {"body": "<g/>"}, "dog": {"body": "<p/>", "left": 2, "width": 32}},
        "aliases": {"kitten": {"parent": "puss"}, "puss": {"parent": "cat"}},
    }
    found = fetch_emoji.drawings(icons)
    assert sorted(found) == ["cat", "dog", "kitten", "puss"]
    assert found["kitten"] == found["cat"]
    assert 'viewBox="0 0 64 16"' in found["cat"]
    assert 'viewBox="2 0 32 16"' in found["dog"]


def test_faces_are_of_one_family() -> None:
    """Protects the coarse task: at least 60 faces, none in two families."""
    faces = [face for names in fetch_emoji.FAMILIES.values() for face in names.split()]
    assert len(faces) == len(set(faces)) >= 60
    assert {split for split, _ in fetch_emoji.SETS.values()} == {"train", "val", "test"}


def test_radicals_are_the_classical_ones() -> None:
    """Protects the coarse task: the classical number where KANJIDIC has two, and graded characters alone."""
    text = "# header\n亜 3021 U4e9c B1 C7 G8 S7 {Asia}\n唖 3022 U5516 B30 S10 {mute}\n一 306c U4e00 B1 G1 S1 {one}"
    assert fetch_characters.radicals(text) == {7: ["亜"], 1: ["一"]}


def test_look_alikes_are_the_closest_shapes() -> None:
    """Protects that the classes look alike: the closest pair first, then what is closest to it."""
    shapes = np.eye(5, 8, dtype=np.float32)
    shapes[3] = shapes[1] + 0.1 * shapes[4]
    shapes[2] += 0.5 * shapes[1]
    assert set(fetch_characters.alike(shapes, 2)) == {1, 3}
    assert set(fetch_characters.alike(shapes, 3)) == {1, 2, 3}


def test_no_font_and_no_set_is_in_two_splits() -> None:
    """Protects the claim that the test fonts were not trained on."""
    files = [
        name for names in fetch_characters.FONTS.values() for text in names.values() for name in text.split()
    ]
    assert len(files) == len(set(files)) >= 12


def test_a_sample_depends_on_its_place_alone() -> None:
    """Protects that a set can be made again: the same pixels for the same place, others elsewhere."""
    picture = Image.new("L", (96, 96), "black")
    one, again, other = (
        np.asarray(drawing.varied(picture, drawing.generator("set", "face", index))) for index in (0, 0, 1)
    )
    assert one.shape == (drawing.STORE, drawing.STORE, 3)
    assert (one == again).all()
    assert (one != other).any()
