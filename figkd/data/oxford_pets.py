"""Oxford-IIIT Pets (Parkhi et al. 2012): 37 cats and dogs, 3,680 training and 3,669 test images, as published.

A few of its .jpg files are GIF or BMP inside; they are decoded by content.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.listing import Archive, Listing, Sample, number, published_folder, require, rows
from figkd.data.options import Options
from figkd.data.store import SplitName

DEFAULTS: Options = {}

LAYOUT = """\
<root>/images/Abyssinian_1.jpg ...
<root>/annotations/trainval.txt, test.txt
or all of it in <root>/oxford-iiit-pet/"""

SOURCE = (
    "figkd-pipeline download oxford_pets ROOT, or by hand images.tar.gz and annotations.tar.gz "
    "from https://www.robots.ox.ac.uk/~vgg/data/pets/"
)

OFFICIAL = {"train": 3_680, "test": 3_669}

# Sizes and checksums as recorded by TensorFlow Datasets (url_checksums/oxford_iiit_pet.txt).
_HOST = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
ARCHIVES = (
    Archive(
        f"{_HOST}annotations.tar.gz",
        19_173_078,
        "sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
        "annotations",
    ),
    Archive(
        f"{_HOST}images.tar.gz",
        791_918_971,
        "sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
        "images",
    ),
)


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists; class ids count from 1, and the names are those of the images without their number."""
    folder = published_folder(root, "oxford-iiit-pet", "annotations")
    names: dict[SplitName, str] = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
    require(folder, ["images/", *names.values()], SOURCE, LAYOUT)
    name_of: dict[int, str] = {}
    listed: dict[SplitName, list[tuple[str, int]]] = {}
    for split, name in names.items():
        listed[split] = []
        for image, class_id, _, _ in rows(folder / name, ("image", "class id", "species", "breed id")):
            key = number(class_id, folder / name, f"the class of {image}", 1)
            name_of.setdefault(key, image.rpartition("_")[0])
            listed[split].append((f"images/{image}.jpg", key))
    label_of = {key: label for label, key in enumerate(sorted(name_of))}
    splits = {
        split: [Sample(folder / file, label_of[key], file) for file, key in entries]
        for split, entries in listed.items()
    }
    lists = [folder / name for name in names.values()]
    return Listing([name_of[key] for key in sorted(name_of)], splits, lists)
