"""Stanford Cars (Krause et al. 2013): 196 cars, 8,144 training and 8,041 test images.

Two layouts were published: images in cars_train/ and cars_test/ with a devkit, and all images in car_ims/ with one
list. The publisher's server serves neither any more. The devkit's own cars_test_annos.mat has no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from figkd.data.listing import Listing, Sample, matlab, number, require
from figkd.data.options import Options
from figkd.data.store import SplitName
from figkd.errors import DataError

DEFAULTS: Options = {"crop_boxes": False}

LAYOUT = """\
<root>/cars_train/00001.jpg ..., <root>/cars_test/00001.jpg ...
<root>/devkit/cars_meta.mat, cars_train_annos.mat
<root>/cars_test_annos_withlabels.mat      (in devkit/ is fine too)
or
<root>/car_ims/000001.jpg ...
<root>/cars_annos.mat
or either of them in <root>/stanford_cars/"""

# Checksums as recorded by TensorFlow Datasets (url_checksums/cars196.txt), for copies from elsewhere.
SOURCE = (
    "https://ai.stanford.edu/~jkrause/cars/car_dataset.html does not serve it any more: take a copy of "
    "cars_train.tgz (sha256 512b227b...), cars_test.tgz (sha256 bffea656...), car_devkit.tgz (sha256 b97deb46...) "
    "and cars_test_annos_withlabels.mat (sha256 790f75be...), and unpack them in ROOT"
)

OFFICIAL = {"train": 8_144, "test": 8_041}


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official lists in either layout; with crop_boxes, the car's box is kept."""
    folder = root / "stanford_cars" if (root / "stanford_cars").is_dir() else root
    crop = bool(options["crop_boxes"])
    if (folder / "cars_annos.mat").is_file():
        require(folder, ["car_ims/"], SOURCE, LAYOUT)
        path = folder / "cars_annos.mat"
        classes, records = matlab(path, "class_names", "annotations")
        is_test = [bool(record["test"]) for record in records]
        splits: dict[SplitName, list[Sample]] = {"train": [], "test": []}
        samples = _samples(folder, "", "relative_im_path", records, path, len(classes), crop)
        for sample, test in zip(samples, is_test, strict=True):
            splits["test" if test else "train"].append(sample)
        return Listing([str(name) for name in classes], splits, [path])
    labelled = "cars_test_annos_withlabels.mat"
    if (folder / "devkit" / labelled).is_file():
        labelled = f"devkit/{labelled}"
    names = ["devkit/cars_meta.mat", "devkit/cars_train_annos.mat", labelled]
    require(folder, ["cars_train/", "cars_test/", *names], SOURCE, LAYOUT)
    lists = [folder / name for name in names]
    (classes,) = matlab(lists[0], "class_names")
    splits = {}
    parts: list[tuple[SplitName, Path]] = [("train", lists[1]), ("test", lists[2])]
    for split, path in parts:
        (records,) = matlab(path, "annotations")
        # Some copies unpack to cars_train/cars_train.
        inside = f"cars_{split}/cars_{split}/"
        images = inside if (folder / inside).is_dir() else f"cars_{split}/"
        splits[split] = _samples(folder, images, "fname", records, path, len(classes), crop)
    return Listing([str(name) for name in classes], splits, lists)


def _samples(
    folder: Path, images: str, name: str, records: Any, path: Path, classes: int, crop: bool
) -> list[Sample]:
    fields = {name, "class", *(_CORNERS if crop else ())}
    if fields - set(np.asarray(records).dtype.names or ()):
        raise DataError(f"{path} lacks {', '.join(sorted(fields))}; labels are in *_withlabels.mat", SOURCE)
    found = []
    for record in records:
        file = images + str(record[name])
        label = number(record["class"], path, f"the class of {file}", 1, classes) - 1
        box = None
        if crop:
            left, top, right, bottom = (int(record[corner]) for corner in _CORNERS)
            box = (left - 1, top - 1, right, bottom)  # MATLAB counts from 1 and includes the last pixel
        found.append(Sample(folder / file, label, file, box))
    return found


_CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
