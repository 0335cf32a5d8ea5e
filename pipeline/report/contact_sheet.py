"""A few training images of each class as the network sees them, bounded in number and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.report.pictures import data_address

MOST_CLASSES = 60
A_CLASS = 3
MOST_BYTES = 900_000
"""Of all addresses together."""
SIDE = 80
"""Longest side of a picture, pixels."""


@dataclass(frozen=True)
class Picture:
    """An image as a `data:` address, and its id."""

    address: str
    sample_id: str


@dataclass(frozen=True)
class Strip:
    """A class and its pictures."""

    name: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class ContactSheet:
    """The classes that are shown, by output, and how many are not."""

    strips: Sequence[Strip] = ()
    more: int = 0


def contact_sheet(data: Path, image_size: int) -> ContactSheet:
    """Pictures of training images; equal data give equal sheets.

    Args:
        data: artifact of the stage `data`.
        image_size: side of what the network takes, pixels; the rest of a stored image is cropped.

    Returns:
        An empty sheet where the images are decoded on the fly and are not there any more.
    """
    from figkd.data import class_names, open_split
    from figkd.data.crop import centre_crop
    from figkd.errors import DataError

    names = class_names(data)
    try:
        split = open_split(data, "train")
        chosen = choose(split.labels, len(names))
        rows = np.array([row for group in chosen.values() for row in group], dtype=np.int64)
        seen = dict(zip(rows.tolist(), centre_crop(np.asarray(split.images[rows]), image_size), strict=True))
    except DataError:
        return ContactSheet()
    shown: dict[int, list[Picture]] = {}
    room = MOST_BYTES
    # First one of every class, then a second one, so that no class takes another one's room.
    for turn in range(A_CLASS):
        for label, group in chosen.items():
            if turn < len(group):
                address = data_address(seen[group[turn]], SIDE)
                room -= len(address)
                if room >= 0:
                    shown.setdefault(label, []).append(Picture(address, split.ids[group[turn]]))
    return ContactSheet(
        [Strip(names[label], shown[label]) for label in sorted(shown)], len(names) - len(shown)
    )


def choose(labels: np.ndarray[tuple[int], np.dtype[np.int64]], classes: int) -> dict[int, list[int]]:
    """Rows to show by label: at most `A_CLASS` from all over a class, of at most `MOST_CLASSES` from all over the list.

    Args:
        labels: int64 [N].
        classes: their number.
    """
    shown = _spread(classes, MOST_CLASSES)
    order = np.argsort(labels, kind="stable")
    begins = np.searchsorted(labels[order], shown, side="left")
    ends = np.searchsorted(labels[order], shown, side="right")
    return {
        label: [int(order[begin + place]) for place in _spread(int(end - begin), A_CLASS)]
        for label, begin, end in zip(shown, begins, ends, strict=True)
    }


def _spread(count: int, most: int) -> list[int]:
    """At most `most` numbers below `count`, ascending, in equal distances."""
    kept = min(count, most)
    return [(2 * index + 1) * count // (2 * kept) for index in range(kept)]
