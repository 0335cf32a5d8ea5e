"""CUB-200-2011 (Wah et al. 2011): 200 birds, 5,994 training and 5,794 test images, as published.

Some of its images are in ImageNet too: say so beside the numbers of a pretrained network.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from pathlib import Path
from typing import Any

from figkd.data.decode import Box
from figkd.data.listing import Archive, Listing, Sample, number, published_folder, require, rows
from figkd.data.options import Options
from figkd.errors import DataError

DEFAULTS: Options = {"crop_boxes": False}

LAYOUT = """\
<root>/images/001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg ...
<root>/images.txt, image_class_labels.txt, train_test_split.txt, classes.txt
<root>/bounding_boxes.txt                  (only for the option crop_boxes)
or all of it in <root>/CUB_200_2011/"""

SOURCE = (
    "figkd-pipeline download cub200 ROOT, or by hand CUB_200_2011.tgz "
    "from https://data.caltech.edu/records/65de6-vp158"
)

OFFICIAL = {"train": 5_994, "test": 5_794}

# Size and checksum as recorded by TensorFlow Datasets (url_checksums/caltech_birds2011.txt) and torchvision's
# prototype (cub200.py).
ARCHIVES = (
    Archive(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        1_150_585_339,
        "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        "CUB_200_2011",
    ),
)


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists, which refer to each other by image ids; with crop_boxes, the bird's box is kept."""
    folder = published_folder(root, "CUB_200_2011", "images.txt")
    names = ["images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"]
    if options["crop_boxes"]:
        names.append("bounding_boxes.txt")
    require(folder, ["images/", *names], SOURCE, LAYOUT)
    lists = [folder / name for name in names]
    classes = {key: name for key, name in rows(lists[3], ("class id", "name"))}
    label_of = {key: label for label, key in enumerate(sorted(classes, key=int))}
    class_of = dict(rows(lists[1], ("image id", "class id")))
    training = dict(rows(lists[2], ("image id", "is training")))
    boxes = _boxes(lists[4]) if options["crop_boxes"] else {}
    train: list[Sample] = []
    test: list[Sample] = []
    for key, relative in rows(lists[0], ("image id", "path")):
        try:
            label, part = label_of[class_of[key]], train if _flag(training[key], lists[2]) else test
            box = boxes[key] if boxes else None
        except KeyError as error:
            raise DataError(
                f"the lists in {folder} do not agree about image {key}: no entry {error}", SOURCE
            ) from error
        part.append(Sample(folder / "images" / relative, label, f"images/{relative}", box))
    # Published as 001.Black_footed_Albatross, in the order of the ids.
    plain = [classes[key].partition(".")[2] or classes[key] for key in label_of]
    return Listing(plain, {"train": train, "test": test}, lists)


def _flag(text: str, path: Path) -> bool:
    return bool(number(text, path, "'is training'", 0, 1))


def _boxes(path: Path) -> dict[str, Box]:
    found = {}
    for key, *fields in rows(path, ("image id", "x", "y", "width", "height")):
        try:
            x, y, width, height = map(float, fields)
        except ValueError as error:
            raise DataError(f"{path}: the box of image {key} is {' '.join(fields)!r}", SOURCE) from error
        found[key] = floor(x), floor(y), ceil(x + width), ceil(y + height)
    return found
