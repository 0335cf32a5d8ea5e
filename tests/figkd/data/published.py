"""What the tests of published layouts share: small pictures, list files, preparing at 8 px."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from figkd.data import open_split, prepare

BLUE, RED = (0, 0, 250), (250, 0, 0)


def picture(path: Path, colour: tuple[int, int, int] = RED, box: Sequence[int] | None = None) -> None:
    """A JPEG of 40 x 60 pixels (width, height), blue with a box of another colour; all of it without a box.

    Pictures of different paths show the same and have different contents: none is a copy of another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (40, 60), colour if box is None else BLUE)
    if box is not None:
        image.paste(colour, tuple(box))
    image.save(path, "JPEG", quality=95, subsampling=0, comment="/".join(path.parts[-3:]))


def lines(path: Path, *rows: str) -> Path:
    """A text file with a line feed after each row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def cells(values: Sequence[str]) -> Any:
    """A MATLAB cell array of texts, a column."""
    found = np.empty((len(values), 1), dtype=object)
    found[:, 0] = [np.array([value]) for value in values]
    return found


def prepared(dataset: str, root: Path, out: Path, **options: object) -> dict[str, Any]:
    """Prepare a data set at 8 px; returns what data.json says."""
    return prepare(dataset, root, out, image_size=8, store_size=8, val_fraction=0.25, seed=0, options=options)


def given(said: dict[str, Any]) -> dict[str, int]:
    """Numbers of images in the splits that are given: what was held out of train as val is put back."""
    counts = dict(said["counts"])
    held_out = counts.pop("val")
    assert held_out > 0
    return {**counts, "train": counts["train"] + held_out}


def labels_and_ids(out: Path, split: Any) -> list[tuple[int, str]]:
    """Label and id of each sample of a split, in order."""
    found = open_split(out, split)
    return list(zip(found.labels.tolist(), found.ids, strict=True))


def only(out: Path, colour: tuple[int, int, int]) -> bool:
    """Whether every test image shows one colour and nothing else."""
    images = open_split(out, "test").images.astype(int)
    return bool((np.abs(images - np.array(colour)) < 40).all())
