"""Food-101 (Bossard et al. 2014): 101 dishes, 75,750 training and 25,250 test images, as published.

The training labels were not cleaned by the publisher, on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.listing import Archive, Listing, Sample, published_folder, require, rows
from figkd.data.options import Options
from figkd.data.store import SplitName
from figkd.errors import DataError

DEFAULTS: Options = {}

LAYOUT = """\
<root>/images/apple_pie/1005649.jpg ...
<root>/meta/classes.txt, train.txt, test.txt
or all of it in <root>/food-101/"""

SOURCE = (
    "figkd-pipeline download food101 ROOT, or by hand food-101.tar.gz "
    "from https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"
)

OFFICIAL = {"train": 75_750, "test": 25_250}

# Size and checksum as recorded by TensorFlow Datasets (url_checksums/food101.txt).
ARCHIVES = (
    Archive(
        "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
        4_996_278_331,
        "sha256:d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
        "food-101",
    ),
)


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists, of image paths without suffix; labels in the order of classes.txt."""
    folder = published_folder(root, "food-101", "meta")
    names: dict[SplitName, str] = {"train": "meta/train.txt", "test": "meta/test.txt"}
    require(folder, ["images/", "meta/classes.txt", *names.values()], SOURCE, LAYOUT)
    classes = [name for (name,) in rows(folder / "meta" / "classes.txt", ("class",))]
    label_of = {name: label for label, name in enumerate(classes)}
    splits: dict[SplitName, list[Sample]] = {}
    for split, name in names.items():
        splits[split] = []
        for (entry,) in rows(folder / name, ("class/image",)):
            label = label_of.get(entry.partition("/")[0])
            if label is None:
                raise DataError(f"{folder / name}: {entry!r} is of no class of classes.txt", SOURCE)
            file = f"images/{entry}.jpg"
            splits[split].append(Sample(folder / file, label, file))
    return Listing(classes, splits, [folder / "meta" / "classes.txt", *(folder / n for n in names.values())])
