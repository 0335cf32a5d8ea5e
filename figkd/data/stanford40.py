"""Stanford 40 Actions (Yao et al. 2011): 40 actions, 4,000 training and 5,532 test images, as published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.listing import Archive, Listing, Sample, published_folder, require, rows
from figkd.data.options import Options
from figkd.data.store import SplitName

DEFAULTS: Options = {}

LAYOUT = """\
<root>/JPEGImages/applauding_001.jpg ...
<root>/ImageSplits/actions.txt, applauding_train.txt, applauding_test.txt ...
or all of it in <root>/Stanford40/"""

SOURCE = (
    "figkd-pipeline download stanford40 ROOT, or by hand Stanford40_JPEGImages.zip and Stanford40_ImageSplits.zip "
    "from http://vision.stanford.edu/Datasets/40actions.html"
)

OFFICIAL = {"train": 4_000, "test": 5_532}

# No checksum or size was ever published; the CRC of every member of the zip files is checked.
_HOST = "http://vision.stanford.edu/Datasets/"
ARCHIVES = (
    Archive(f"{_HOST}Stanford40_ImageSplits.zip", 0, "", "ImageSplits"),
    Archive(f"{_HOST}Stanford40_JPEGImages.zip", 0, "", "JPEGImages"),
)


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists, one a class and split; labels in the order of actions.txt."""
    folder = published_folder(root, "Stanford40", "ImageSplits")
    require(folder, ["JPEGImages/", "ImageSplits/actions.txt"], SOURCE, LAYOUT)
    index = folder / "ImageSplits" / "actions.txt"
    # The first line has the columns' names.
    classes = [name for name, _ in rows(index, ("action", "images"))[1:]]
    names = [f"ImageSplits/{name}_{split}.txt" for name in classes for split in ("train", "test")]
    require(folder, names, SOURCE, LAYOUT)
    splits: dict[SplitName, list[Sample]] = {"train": [], "test": []}
    for label, name in enumerate(classes):
        for split, samples in splits.items():
            for (entry,) in rows(folder / "ImageSplits" / f"{name}_{split}.txt", ("image",)):
                samples.append(Sample(folder / "JPEGImages" / entry, label, f"JPEGImages/{entry}"))
    return Listing(classes, splits, [index, *(folder / name for name in names)])
