"""Files of test images are kept as they came, within bounds; data without files keeps none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figkd.data import originals, prepare
from figkd.data.listing import Sample
from figkd.data.originals import MOST_FILES, ORIGINALS_FILE, read_originals, write_originals
from figkd.errors import DataError


@pytest.mark.parametrize("decode", ["ahead", "on_the_fly"])
def test_a_folders_test_images_are_kept_byte_for_byte(tmp_path: Path, decode: str) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        for i in range(30):
            pixels = random.integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "root" / name / f"{i}.jpg")
    out = tmp_path / "out"
    prepare("image_folder", tmp_path / "root", out, image_size=8, store_size=8, decode=decode)  # type: ignore[arg-type]
    kept = read_originals(out)
    everything = {path.read_bytes() for path in (tmp_path / "root").rglob("*.jpg")}
    assert 0 < len(kept) <= MOST_FILES and set(kept) <= everything


def test_rendered_data_keeps_none(tmp_path: Path) -> None:
    sizes = {"train_per_class": 4, "val_per_class": 2, "test_per_class": 2}
    prepare("fonts", None, tmp_path / "out", image_size=8, store_size=8, options=sizes)
    assert read_originals(tmp_path / "out") == [] and not (tmp_path / "out" / ORIGINALS_FILE).exists()


def _bytes(count: int, size: int) -> list[Sample]:
    return [Sample((lambda i=i: bytes([i % 256]) * size), 0, str(i)) for i in range(count)]  # type: ignore[misc]


def test_they_are_spread_over_the_split(tmp_path: Path) -> None:
    write_originals(tmp_path, _bytes(200, 3))
    kept = [content[0] for content in read_originals(tmp_path)]
    assert len(kept) == MOST_FILES and kept == sorted(kept) and kept[0] == 0 and kept[-1] == 199
    assert max(np.diff(kept)) <= 8


def test_bytes_are_bounded_and_large_files_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit, from the whole split."""
    monkeypatch.setattr(originals, "MOST_BYTES", 100)
    write_originals(tmp_path, [*_bytes(100, 10), *_bytes(100, 101)])
    kept = [content[0] for content in read_originals(tmp_path)]
    assert len(kept) == 10 and max(kept) > 60
    (tmp_path / ORIGINALS_FILE).unlink()
    pixels = np.zeros((2, 2, 3), np.uint8)
    write_originals(tmp_path, [Sample(tmp_path / "absent", 0, "a"), Sample(pixels, 0, "b"), *_bytes(1, 101)])
    assert read_originals(tmp_path) == []


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / ORIGINALS_FILE
    write_originals(tmp_path, _bytes(3, 50))
    whole = path.read_bytes()
    for damaged in (b"", b"junk", whole[:-30], whole.replace(b"\1" * 50, b"\2" * 50)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            read_originals(tmp_path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("0", bytes(originals.MOST_BYTES + 1))
    with pytest.raises(DataError, match="larger"):
        read_originals(tmp_path)
