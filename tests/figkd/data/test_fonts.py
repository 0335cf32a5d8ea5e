"""The rendered data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figkd.data import DATASETS, open_split, prepare, source_files
from figkd.data.fonts import FACES, render
from tests.figkd.data.examined import check

FACE = source_files("fonts", None)
SMALL = {"train_per_class": 3, "val_per_class": 2, "test_per_class": 2}


def test_prepared_folder(tmp_path: Path) -> None:
    """Protects the layout, the counts and the labels; a second run gives the same bytes."""
    for name in ("a", "b"):
        said = prepare("fonts", None, tmp_path / name, image_size=32, store_size=36, seed=4, options=SMALL)
    assert said["counts"] == {"train": 63, "val": 42, "test": 42}
    assert said["classes"] == 21
    split = open_split(tmp_path / "a", "train")
    assert split.images.shape == (63, 36, 36, 3)
    assert split.labels.tolist() == [label for label in range(21) for _ in range(3)]
    assert split.ids[4] == "DejaVuSans-Bold/train/000001"
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_samples_do_not_depend_on_each_other() -> None:
    """Protects: a sample is a function of (seed, split, class, index), so that counts can change."""
    first = render(FACE[3], "train", 3, 5, 32, 36, 0)
    assert np.array_equal(first, render(FACE[3], "train", 3, 5, 32, 36, 0))
    others = [
        render(FACE[3], "val", 3, 5, 32, 36, 0),
        render(FACE[3], "train", 3, 6, 32, 36, 0),
        render(FACE[3], "train", 3, 5, 32, 36, 1),
    ]
    assert all(not np.array_equal(first, other) for other in others)


def test_every_image_shows_letters() -> None:
    """Protects against blank images (a face without Latin letters, letters outside the picture)."""
    for label in range(len(FACES)):
        for index in range(5):
            image = render(FACE[label], "train", label, index, 32, 32, 0).astype(int)
            assert np.ptp(image) > 70, FACES[label]


def test_the_store_margin_shows_surroundings() -> None:
    """Protects shifts: a larger store keeps the letters' size and centre."""

    def ink(image: np.ndarray) -> int:
        grey = image[..., 0].astype(int)
        return int((grey < (grey.max() + grey.min()) / 2).sum())

    small = [ink(render(FACE[16], "train", 16, index, 32, 32, 0)) for index in range(20)]
    large = [ink(render(FACE[16], "train", 16, index, 32, 48, 0)) for index in range(20)]
    assert 0.9 < sum(large) / sum(small) < 1.3


def test_check_and_sources() -> None:
    """Protects preflight: fonts are found without a root, wrong options are named."""
    assert check("fonts", None) == []
    files = source_files("fonts", None)
    assert len(files) == len(set(files)) == len(FACES) == 21
    assert all(file.is_file() for file in files)
    assert "train_per_class" in check("fonts", None, {"train_per_class": 0})[0]
    assert "no option 'nosuch'" in check("fonts", None, {"nosuch": 1})[0]
    assert not DATASETS["fonts"].needs_root
