"""What images are before they are decoded: counted right, in few numbers, wherever the images come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from figkd.data import prepare
from figkd.data.sources import Source, Sources

SIDES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=50)


@given(SIDES)
def test_the_numbers_are_those_of_all_images(sides: list[tuple[int, int]]) -> None:
    """Protects data.json: minimum, lower median and maximum, and how many are smaller than the view."""
    sources = Sources(20)
    for width, height in sides:
        sources.add(Source("PNG", width, height, min(width, height)))
    found = sources.facts()
    for axis, name in enumerate(("width", "height")):
        ordered = sorted(side[axis] for side in sides)
        middle = ordered[(len(ordered) - 1) // 2]
        assert found[name] == {"min": ordered[0], "median": middle, "max": ordered[-1]}
    assert found["formats"] == {"PNG": len(sides)}
    assert found["enlarged"] == sum(min(side) < 20 for side in sides)


@pytest.mark.parametrize("decode", ["ahead", "on_the_fly"])
def test_a_folder_of_many_kinds(tmp_path: Path, decode: Literal["ahead", "on_the_fly"]) -> None:
    """Protects the record of ordinary folders: by content, not suffix; upright; before a JPEG's own reduction."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in "ab":
            folder = tmp_path / "root" / split / name
            folder.mkdir(parents=True)
            image = Image.fromarray(rng.integers(0, 255, (200, 400, 3), dtype=np.uint8))
            turned = Image.Exif()
            turned[0x0112] = 6
            image.save(folder / "turned.jpg", exif=turned)
            image.resize((10, 12)).save(folder / "small.jpg", format="PNG")
            image.save(folder / "two.jpeg", format="MPO", save_all=True, append_images=[image])
    out = tmp_path / "out"
    said = prepare("image_folder", tmp_path / "root", out, image_size=16, store_size=20, decode=decode)
    assert said["sources"] == {
        "formats": {"JPEG": 12, "PNG": 6},
        "width": {"min": 10, "median": 200, "max": 400},
        "height": {"min": 12, "median": 200, "max": 400},
        "enlarged": 6,
    }
    assert said["origins"] == {"train": "given", "val": "given", "test": "given"}
    assert json.loads((out / "data.json").read_text())["sources"] == said["sources"]


def test_a_small_box_is_enlarged(tmp_path: Path) -> None:
    """Protects the warning for data that are cropped to boxes: the part that is used counts."""
    from figkd.data.decode import Job, decode_many

    (found,) = decode_many([Job(np.zeros((50, 60, 3), np.uint8), (10, 10, 20, 40), 5)], 8, 1)
    assert not isinstance(found, Exception) and found.source == Source("array", 60, 50, 10)


def test_what_is_made_here_says_so(tmp_path: Path) -> None:
    """Protects honesty about `fonts` and `digits`: no file formats are claimed; held-out splits are called so."""
    sizes = {"train_per_class": 2, "val_per_class": 1, "test_per_class": 1}
    fonts = prepare("fonts", None, tmp_path / "fonts", image_size=8, store_size=10, options=sizes)
    assert fonts["sources"]["formats"] == {"rendered": 84} and fonts["sources"]["enlarged"] == 0
    assert set(fonts["origins"].values()) == {"rendered"}
    digits = prepare("digits", None, tmp_path / "digits", image_size=16, store_size=16)
    assert digits["sources"]["formats"] == {"array": 1797} and digits["sources"]["enlarged"] == 1797
    assert digits["origins"] == {"train": "rest", "val": "held_out", "test": "held_out"}
