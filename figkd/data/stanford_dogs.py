"""Stanford Dogs (Khosla et al. 2011): 120 breeds, 12,000 training and 8,580 test images, as published.

The images are a subset of ImageNet: a network pretrained on ImageNet has seen most of them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from figkd.data.decode import Box
from figkd.data.files import Sample, write_samples
from figkd.data.split import stratified_split
from figkd.errors import DataError
from figkd.progress import Progress

DEFAULTS: dict[str, Any] = {"crop_boxes": False}

LAYOUT = """\
<root>/Images/n02085620-Chihuahua/n02085620_10074.jpg ...
<root>/lists/train_list.mat, test_list.mat    (directly in <root> is fine too)
<root>/Annotation/n02085620-Chihuahua/n02085620_10074 ...   (only for the option crop_boxes)"""

SOURCE = "download images.tar, lists.tar (and annotation.tar) from http://vision.stanford.edu/aditya86/ImageNetDogs/"


def check(root: Path | None, options: Mapping[str, Any]) -> list[str]:
    """Problems that keep the data set from being prepared; cheap: no image is opened."""
    if root is None:
        return [f"the stanford_dogs data set needs a root folder; {SOURCE}"]
    missing = [] if (root / "Images").is_dir() else ["Images/"]
    missing += [f"lists/{name}.mat" for name in _LISTS.values() if _list_path(root, name) is None]
    if options.get("crop_boxes") and not (root / "Annotation").is_dir():
        missing.append("Annotation/")
    if missing:
        return [f"{root} lacks {', '.join(missing)}; {SOURCE}; expected:\n{LAYOUT}"]
    return []


def source_files(root: Path | None, options: Mapping[str, Any]) -> list[Path]:
    """The lists, every image that they name, and the annotations if they are used."""
    if root is None or check(root, options):
        return []
    files = [path for name in _LISTS.values() if (path := _list_path(root, name)) is not None]
    for name in _LISTS.values():
        for relative, _ in _read_list(root, name):
            files.append(root / "Images" / relative)
            if options.get("crop_boxes"):
                files.append(_annotation(root, relative))
    return sorted(file for file in files if file.is_file())


def prepare(
    root: Path | None,
    out: Path,
    *,
    store_size: int,
    val_fraction: float,
    seed: int,
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Write the prepared data folder: the official test split, and a seeded validation split of train.

    With the option crop_boxes, images are cut to the union of their annotated boxes first.
    """
    problems = check(root, options)
    if problems or root is None:
        raise DataError(problems[0])
    listed = {split: _read_list(root, name) for split, name in _LISTS.items()}
    folders = sorted({relative.split("/")[0] for entries in listed.values() for relative, _ in entries})
    # Labels in the lists count from 1 in the order of the folders; some shortened copies leave breeds out.
    label_of = {folder: label for label, folder in enumerate(folders)}
    classes = [folder.partition("-")[2] or folder for folder in folders]
    if len(set(classes)) < len(classes):
        classes = folders
    crop = bool(options.get("crop_boxes"))
    samples = {
        split: [
            Sample(
                root / "Images" / relative,
                label_of[relative.split("/")[0]],
                f"Images/{relative}",
                _box(_annotation(root, relative)) if crop else None,
            )
            for relative, _ in entries
        ]
        for split, entries in listed.items()
    }
    train = samples["train"]
    kept, held = stratified_split([sample.label for sample in train], val_fraction, seed)
    return write_samples(
        out,
        classes,
        {"train": [train[i] for i in kept], "val": [train[i] for i in held], "test": samples["test"]},
        store_size=store_size,
        facts=facts,
        progress=progress,
    )


_LISTS = {"train": "train_list", "test": "test_list"}


def _list_path(root: Path, name: str) -> Path | None:
    for path in (root / "lists" / f"{name}.mat", root / f"{name}.mat"):
        if path.is_file():
            return path
    return None


def _read_list(root: Path, name: str) -> list[tuple[str, int]]:
    """Relative paths with their labels, counted from 1."""
    from scipy.io import loadmat

    path = _list_path(root, name)
    try:
        values = loadmat(str(path))
        files = [str(np.asarray(cell).reshape(-1)[0]) for cell in values["file_list"].reshape(-1)]
        labels = [int(label) for label in values["labels"].reshape(-1)]
    except Exception as error:
        raise DataError(f"{path} is not a list of Stanford Dogs: {error}", SOURCE) from error
    if len(files) != len(labels):
        raise DataError(f"{path} has {len(files)} files but {len(labels)} labels", SOURCE)
    return list(zip(files, labels, strict=True))


def _annotation(root: Path, relative: str) -> Path:
    return root / "Annotation" / Path(relative).with_suffix("")


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
