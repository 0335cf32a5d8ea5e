"""Stanford Dogs (Khosla et al. 2011): 120 breeds, 12,000 training and 8,580 test images, as published.

The images are a subset of ImageNet: a network pretrained on ImageNet has seen most of them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from figkd.data.decode import Box
from figkd.data.listing import Archive, Listing, Sample, matlab, require
from figkd.data.options import Options
from figkd.errors import DataError

DEFAULTS: Options = {"crop_boxes": False}

LAYOUT = """\
<root>/Images/n02085620-Chihuahua/n02085620_10074.jpg ...
<root>/lists/train_list.mat, test_list.mat    (directly in <root> is fine too)
<root>/Annotation/n02085620-Chihuahua/n02085620_10074 ...   (only for the option crop_boxes)"""

SOURCE = (
    "figkd-pipeline download stanford_dogs ROOT, or by hand images.tar, lists.tar (and annotation.tar) "
    "from http://vision.stanford.edu/aditya86/ImageNetDogs/"
)

OFFICIAL = {"train": 12_000, "test": 8_580}

# Sizes and checksums as recorded by TensorFlow Datasets (url_checksums/stanford_dogs.txt).
_HOST = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
ARCHIVES = (
    Archive(
        f"{_HOST}lists.tar",
        481_280,
        "sha256:34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c",
        "train_list.mat",
    ),
    Archive(
        f"{_HOST}annotation.tar",
        21_852_160,
        "sha256:662ed36f707be6b195c2fda392d8e153e83af28cedc8e2134a649f198def30fd",
        "Annotation",
    ),
    Archive(
        f"{_HOST}images.tar",
        793_579_520,
        "sha256:a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58",
        "Images",
    ),
)


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official train and test lists; with crop_boxes, the union of an image's annotated boxes is kept."""
    crop = bool(options["crop_boxes"])
    lists = {name: _list_path(root, f"{name}_list.mat") for name in ("train", "test")}
    files = [path.relative_to(root).as_posix() for path in lists.values()]
    require(root, ["Images/", *files, *(["Annotation/"] if crop else [])], SOURCE, LAYOUT)
    listed = {name: _read_list(path) for name, path in lists.items()}
    folders = sorted({relative.split("/")[0] for entries in listed.values() for relative in entries})
    # Labels in the lists count from 1 in the order of the folders; some shortened copies leave breeds out.
    label_of = {folder: label for label, folder in enumerate(folders)}
    classes = [folder.partition("-")[2] or folder for folder in folders]
    if len(set(classes)) < len(classes):
        classes = folders
    used = list(lists.values())

    def sample(relative: str) -> Sample:
        annotation = root / "Annotation" / Path(relative).with_suffix("")
        if crop:
            used.append(annotation)
        label = label_of[relative.split("/")[0]]
        box = partial(_box, annotation) if crop else None
        return Sample(root / "Images" / relative, label, f"Images/{relative}", box)

    train, test = ([sample(relative) for relative in listed[name]] for name in ("train", "test"))
    return Listing(classes, {"train": train, "test": test}, used)


def _list_path(root: Path, name: str) -> Path:
    return root / name if (root / name).is_file() else root / "lists" / name


def _read_list(path: Path) -> list[str]:
    files, labels = matlab(path, "file_list", "labels")
    if len(files) != len(labels):
        raise DataError(f"{path} has {len(files)} files but {len(labels)} labels", SOURCE)
    return [str(file) for file in files]


def _box(path: Path) -> Box | None:
    try:
        # The published files are plain XML without entities or references.
        boxes = [
            [int(float(box.findtext(key, "nan"))) for key in ("xmin", "ymin", "xmax", "ymax")]
            for box in ElementTree.parse(path).iter("bndbox")
        ]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataError(f"cannot read the annotation {path}: {error}", SOURCE) from error
    if not boxes:
        return None
    low, high = np.min(boxes, axis=0), np.max(boxes, axis=0)
    return int(low[0]), int(low[1]), int(high[2]), int(high[3])
