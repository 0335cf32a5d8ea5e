"""The packed store: whole or not at all, the same bytes, clear errors when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from figkd.data import class_names, facts, open_split
from figkd.data.store import SplitWriter, new_folder, write_facts
from figkd.errors import DataError


def _write(out: Path, count: int = 5) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    with new_folder(out) as folder:
        with SplitWriter(folder, "train", 4) as writer:
            for index, image in enumerate(images):
                writer.append(image, index % 2, f"é/{index}")
        write_facts(folder, ["a", "ü"], {"dataset": "x"})
    return images


def test_round_trip(tmp_path: Path) -> None:
    """Protects images, labels, ids, names and facts; images come as a read-only memory map."""
    images = _write(tmp_path / "data")
    split = open_split(tmp_path / "data", "train")
    assert isinstance(split.images, np.memmap)
    assert not split.images.flags.writeable
    np.testing.assert_array_equal(split.images, images)
    assert split.labels.tolist() == [0, 1, 0, 1, 0]
    assert split.ids[1] == "é/1"
    assert len(split) == 5
    assert class_names(tmp_path / "data") == ["a", "ü"]
    assert facts(tmp_path / "data") == {"dataset": "x"}


def test_an_array_of_any_length_has_a_valid_header(tmp_path: Path) -> None:
    """Protects the header that is written last: numpy reads it for 0 and for 12,345 samples."""
    for count in (0, 12_345):
        with SplitWriter(tmp_path, "val", 1) as writer:
            for index in range(count):
                writer.append(np.full((1, 1, 3), index % 256, np.uint8), 0, str(index))
        loaded = np.load(tmp_path / "val.npy")
        assert loaded.shape == (count, 1, 1, 3)
        assert loaded[-1:].max(initial=count - 1 & 255) == (count - 1) & 255


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    """Protects against half a data set: neither the folder nor a temporary one remains."""
    with pytest.raises(RuntimeError, match="stop"), new_folder(tmp_path / "data") as folder:
        (folder / "file").write_text("half")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    """Protects a user's folder: only an empty one is replaced."""
    (tmp_path / "empty").mkdir()
    _write(tmp_path / "empty")
    with pytest.raises(DataError, match="exists already"):
        _write(tmp_path / "empty")


def test_damage_is_said(tmp_path: Path) -> None:
    """Protects readers: missing, truncated and mismatching files raise DataError with the path."""
    out = tmp_path / "data"
    _write(out)
    with pytest.raises(DataError, match="cannot read the val split"):
        open_split(out, "val")
    np.save(out / "train_labels.npy", np.zeros(4, np.int64))
    with pytest.raises(DataError, match="is damaged"):
        open_split(out, "train")
    (out / "train.npy").write_bytes((out / "train.npy").read_bytes()[:140])
    with pytest.raises(DataError, match="cannot read the train split"):
        open_split(out, "train")
    (out / "classes.json").write_text("[")
    with pytest.raises(DataError, match="cannot read"):
        class_names(out)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    """Protects the packing: every image has the store's shape."""
    with pytest.raises(DataError, match="store of 4 px"), SplitWriter(tmp_path, "train", 4) as writer:
        writer.append(np.zeros((5, 4, 3), np.uint8), 0, "x")
