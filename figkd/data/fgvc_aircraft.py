"""FGVC-Aircraft 2013b (Maji et al. 2013): 3,334 training, 3,333 validation and 3,333 test images, as published.

Each image is labelled on three levels: 100 variants (Boeing 737-700), 70 families (Boeing 737) or 30
manufacturers (Boeing). The lowest 20 rows of every image are a banner with the photographer's name, which is cut
off unless cut_banner is false. Many papers train on the 6,667 images of train and validation: option merge_val.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.decode import Box
from figkd.data.listing import Archive, Listing, Sample, number, published_folder, require, rows
from figkd.data.options import Options
from figkd.data.store import SPLITS, SplitName
from figkd.errors import DataError

DEFAULTS: Options = {"level": "variant", "crop_boxes": False, "cut_banner": True, "merge_val": False}

LAYOUT = """\
<root>/data/images/0034309.jpg ...
<root>/data/variants.txt                   (families.txt, manufacturers.txt)
<root>/data/images_variant_train.txt, images_variant_val.txt, images_variant_test.txt   (or _family_, ...)
<root>/data/images_box.txt                 (only for the option crop_boxes)
or all of it in <root>/fgvc-aircraft-2013b/"""

SOURCE = (
    "figkd-pipeline download fgvc_aircraft ROOT, or by hand fgvc-aircraft-2013b.tar.gz "
    "from https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"
)

OFFICIAL = {"train": 3_334, "val": 3_333, "test": 3_333}

# Size and checksum as recorded by TensorFlow Datasets (url_checksums/fgvc.txt).
ARCHIVES = (
    Archive(
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
        2_770_575_360,
        "sha256:d5f68b1b81d6d7831eb9d5c5517074176b5dfbce6bcb43dc14ed1c66a87b8d75",
        "fgvc-aircraft-2013b",
    ),
)

LEVELS = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}

BANNER = 20
"""Rows at the bottom that show the photographer's name (the publisher's readme)."""


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists of one level; labels in the order of the published list of names."""
    level = options["level"]
    if level not in LEVELS:
        raise DataError(f"level is {level!r}", f"one of {', '.join(LEVELS)}")
    folder = published_folder(root, "fgvc-aircraft-2013b", "data") / "data"
    names = [LEVELS[level], *(f"images_{level}_{split}.txt" for split in SPLITS)]
    if options["crop_boxes"]:
        names.append("images_box.txt")
    require(folder, ["images/", *names], SOURCE, LAYOUT)
    lists = [folder / name for name in names]
    classes = [name for (name,) in rows(lists[0], ("name",))]
    label_of = {name: label for label, name in enumerate(classes)}
    boxes = _boxes(lists[4]) if options["crop_boxes"] else {}
    cut = BANNER if options["cut_banner"] else 0
    splits: dict[SplitName, list[Sample]] = {}
    for split, path in zip(SPLITS, lists[1:4], strict=True):
        splits[split] = []
        for image, name in rows(path, ("image", level)):
            if name not in label_of:
                raise DataError(f"{path}: {name!r} of image {image} is not in {lists[0].name}", SOURCE)
            if boxes and image not in boxes:
                raise DataError(f"{lists[4]} has no box of image {image}", SOURCE)
            file = f"images/{image}.jpg"
            splits[split].append(Sample(folder / file, label_of[name], file, boxes.get(image), cut))
    if options["merge_val"]:
        splits["train"] += splits.pop("val")
    return Listing(classes, splits, lists)


def _boxes(path: Path) -> dict[str, Box]:
    found = {}
    for image, *fields in rows(path, ("image", "xmin", "ymin", "xmax", "ymax")):
        left, top, right, bottom = (number(text, path, f"the box of {image}") for text in fields)
        # Published with the first pixel at (1, 1) and the last one included.
        found[image] = left - 1, top - 1, right, bottom
    return found
