"""MIT Indoor Scenes (Quattoni and Torralba 2009): 67 scenes, 80 training and 20 test images of each, as listed.

The archive holds 15,620 images; the published lists use 6,700 of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.listing import Listing, Sample, published_folder, require, rows
from figkd.data.options import Options
from figkd.data.store import SplitName
from figkd.errors import DataError

DEFAULTS: Options = {}

LAYOUT = """\
<root>/Images/airport_inside/airport_inside_0001.jpg ...
<root>/TrainImages.txt, TestImages.txt
or all of it in <root>/indoorCVPR_09/"""

# Checksum of the archive as recorded by several public loaders; nobody serves it reliably any more.
SOURCE = (
    "TrainImages.txt and TestImages.txt are at https://web.mit.edu/torralba/www/indoor.html; its link to the images, "
    "indoorCVPR_09.tar (2.4 GB, md5 5d176e5f0e56624a453f2fe0d8b19ff7), is often dead: take a copy, and unpack it "
    "in ROOT"
)

OFFICIAL = {"train": 5_360, "test": 1_340}


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists, of paths below Images/; labels in the order of the folders' names."""
    folder = published_folder(root, "indoorCVPR_09", "Images")
    names: dict[SplitName, str] = {"train": "TrainImages.txt", "test": "TestImages.txt"}
    # The lists are separate downloads, and may lie beside the unpacked archive.
    lists = {
        split: folder / name if (folder / name).is_file() else root / name for split, name in names.items()
    }
    require(folder, ["Images/"], SOURCE, LAYOUT)
    require(lists["train"].parent, [path.name for path in lists.values()], SOURCE, LAYOUT)
    listed = {split: [entry for (entry,) in rows(path, ("class/image",))] for split, path in lists.items()}
    for split, entries in listed.items():
        for entry in entries:
            if "/" not in entry:
                raise DataError(f"{lists[split]}: {entry!r} is not <class>/<image>", SOURCE)
    classes = sorted({entry.partition("/")[0] for entries in listed.values() for entry in entries})
    label_of = {name: label for label, name in enumerate(classes)}
    splits = {
        split: [
            Sample(folder / "Images" / entry, label_of[entry.partition("/")[0]], f"Images/{entry}")
            for entry in entries
        ]
        for split, entries in listed.items()
    }
    return Listing(classes, splits, list(lists.values()))
