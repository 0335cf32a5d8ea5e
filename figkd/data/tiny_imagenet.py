"""Tiny ImageNet (Stanford CS231n): 200 classes of 64 x 64 pixels, 100,000 training and 10,000 validation images.

The labels of its test set were never published, so that everybody reports on its validation set: here, too, it is
the test split, and the validation split is held out of train.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.decode import is_image
from figkd.data.listing import Archive, Listing, Sample, published_folder, require, rows
from figkd.data.options import Options
from figkd.errors import DataError

DEFAULTS: Options = {}

LAYOUT = """\
<root>/wnids.txt, words.txt
<root>/train/n01443537/images/n01443537_0.JPEG ...
<root>/val/images/val_0.JPEG ..., <root>/val/val_annotations.txt
or all of it in <root>/tiny-imagenet-200/"""

SOURCE = (
    "figkd-pipeline download tiny_imagenet ROOT, or by hand http://cs231n.stanford.edu/tiny-imagenet-200.zip"
)

OFFICIAL = {"train": 100_000, "test": 10_000}

# Checksum as in many public loaders (Avalanche, and others); the size was measured by users of it.
ARCHIVES = (
    Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        248_100_043,
        "md5:90528d7ca1a48142e341f4ef8d21d0de",
        "tiny-imagenet-200",
    ),
)


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """All training images, and the validation list; labels in the order of the sorted WordNet ids.

    wnids.txt is not sorted; the sorted order is what everybody gets who reads the folders.
    """
    folder = published_folder(root, "tiny-imagenet-200", "wnids.txt")
    require(
        folder, ["wnids.txt", "words.txt", "train/", "val/images/", "val/val_annotations.txt"], SOURCE, LAYOUT
    )
    lists = [folder / "wnids.txt", folder / "words.txt", folder / "val" / "val_annotations.txt"]
    ids = sorted(key for (key,) in rows(lists[0], ("WordNet id",)))
    label_of = {key: label for label, key in enumerate(ids)}
    require(folder, [f"train/{key}/images/" for key in ids], SOURCE, LAYOUT)
    train = [
        Sample(file, label, file.relative_to(folder).as_posix())
        for key, label in label_of.items()
        for file in sorted((folder / "train" / key / "images").iterdir(), key=_by_number)
        if is_image(file)
    ]
    test = []
    for file_name, key, *_ in rows(lists[2], ("image", "WordNet id", "box"), "\t"):
        if key not in label_of:
            raise DataError(f"{lists[2]}: {key!r} of {file_name} is not in wnids.txt", SOURCE)
        name = f"val/images/{file_name}"
        test.append(Sample(folder / name, label_of[key], name))
    return Listing(_names(lists[1], ids), {"train": train, "test": test}, lists)


def _by_number(file: Path) -> tuple[int, str]:
    stem = file.stem.rpartition("_")[2]
    return (int(stem) if stem.isdigit() else -1, file.name)


def _names(path: Path, ids: list[str]) -> list[str]:
    """The first of a class's synonyms, with its id where two classes share it."""
    words = {key: text.partition(",")[0] for key, text in rows(path, ("WordNet id", "words"), "\t")}
    names = [words.get(key, key) for key in ids]
    return [
        f"{name} ({key})" if names.count(name) > 1 else name for name, key in zip(names, ids, strict=True)
    ]
