"""The contact sheet: each class is there, as the network sees it, in bounded bytes, and always the same."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from figkd.data import open_split, prepare
from pipeline.report import contact_sheet as module
from pipeline.report.contact_sheet import A_CLASS, MOST_CLASSES, choose, contact_sheet


def _folder(root: Path, classes: int, each: int = 6) -> None:
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class {label:03d}"
        folder.mkdir(parents=True)
        for index in range(each):
            Image.fromarray(rng.integers(0, 255, (30, 50, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def _prepared(root: Path, out: Path, decode: Literal["ahead", "on_the_fly"] = "ahead") -> Path:
    prepare("image_folder", root, out, image_size=16, store_size=20, decode=decode)
    return out


def _pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


@pytest.mark.parametrize("decode", ["ahead", "on_the_fly"])
def test_pictures_are_what_the_network_sees(tmp_path: Path, decode: Literal["ahead", "on_the_fly"]) -> None:
    """Protects: pixel by pixel the centre of the stored image, of the class that stands above it."""
    _folder(tmp_path / "root", 3)
    data = _prepared(tmp_path / "root", tmp_path / "out", decode)
    sheet = contact_sheet(data, 16)
    assert [strip.name for strip in sheet.strips] == ["class 000", "class 001", "class 002"]
    assert sheet.more == 0 and sheet == contact_sheet(data, 16)
    split = open_split(data, "train")
    for strip in sheet.strips:
        assert len({picture.sample_id for picture in strip.pictures}) == A_CLASS
        for picture in strip.pictures:
            assert picture.sample_id.startswith(strip.name)
            row = split.ids.index(picture.sample_id)
            np.testing.assert_array_equal(
                _pixels(picture.address), np.asarray(split.images[[row]])[0, 2:18, 2:18]
            )


def test_files_that_are_gone_cost_the_pictures_only(tmp_path: Path) -> None:
    """Protects a report that is written again when images decoded on the fly have been moved."""
    _folder(tmp_path / "root", 2)
    data = _prepared(tmp_path / "root", tmp_path / "out", "on_the_fly")
    shutil.rmtree(tmp_path / "root")
    assert contact_sheet(data, 16).strips == ()


def test_bytes_are_bounded_and_every_class_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the page's size: where room is scarce each class keeps one picture before any gets two."""
    _folder(tmp_path / "root", 4)
    data = _prepared(tmp_path / "root", tmp_path / "out")
    one = len(contact_sheet(data, 16).strips[0].pictures[0].address)
    monkeypatch.setattr(module, "MOST_BYTES", 5 * one + one // 2)
    sheet = contact_sheet(data, 16)
    assert len(sheet.strips) == 4 and all(strip.pictures for strip in sheet.strips)
    assert sum(len(p.address) for strip in sheet.strips for p in strip.pictures) <= 5 * one + one // 2
    monkeypatch.setattr(module, "MOST_BYTES", 0)
    assert contact_sheet(data, 16).more == 4


@given(st.lists(st.integers(0, 150), max_size=400), st.integers(1, 151))
def test_rows_are_of_their_class(labels: list[int], classes: int) -> None:
    """Protects the choice: distinct rows of the class, as many as there are up to three, for at most 60 classes."""
    known = np.array([label for label in labels if label < classes], dtype=np.int64)
    chosen = choose(known, classes)
    assert len(chosen) == min(classes, MOST_CLASSES)
    for label, rows in chosen.items():
        assert all(known[row] == label for row in rows)
        assert len(set(rows)) == len(rows) == min(A_CLASS, int((known == label).sum()))
