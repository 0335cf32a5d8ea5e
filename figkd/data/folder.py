"""A user's own images in folders named after their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.decode import is_image
from figkd.data.listing import Listing, Sample
from figkd.data.store import SPLITS, SplitName
from figkd.errors import DataError

DEFAULTS: dict[str, Any] = {"test_fraction": 0.2}

LAYOUT = """\
<root>/<class>/*.jpg                      split by class, with a seed; or
<root>/train|val|test/<class>/*.jpg       as given; val/ or test/ may be missing"""

SOURCE = "put the images of each class in a folder of its own"


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """One class a folder.

    Without test/, test is held out of what there is (option test_fraction, default 0.2), then val out of the
    rest of train; a given val/ is used as val, a given test/ as test.
    """
    fraction = options["test_fraction"]
    if not 0 < fraction < 1:
        raise DataError(f"test_fraction is {fraction}; it must lie between 0 and 1")
    found = _find(root)
    classes = sorted(found.get("train", {}))
    if len(classes) < 2:
        raise DataError(
            f"{root} has images of {len(classes)} class(es), at least 2 are needed", f"expected:\n{LAYOUT}"
        )
    for name, by_class in found.items():
        extra = sorted(set(by_class) - set(classes))
        if extra:
            raise DataError(f"classes in {name}/ that are not in train/: {', '.join(extra[:5])}")
    need = 1 + sum(name not in found for name in ("val", "test"))
    small = [name for name in classes if len(found["train"][name]) < need]
    if small:
        raise DataError(f"classes with fewer than {need} images, too few to split: {', '.join(small[:5])}")
    splits = {name: _samples(root, classes, by_class) for name, by_class in found.items()}
    return Listing(classes, splits, test_fraction=fraction)


def _find(root: Path) -> dict[SplitName, dict[str, list[Path]]]:
    """Image files by split and class; a flat tree is all "train"."""
    if (root / "train").is_dir() and _folders(root / "train"):
        return {name: _by_class(root / name) for name in SPLITS if (root / name).is_dir()}
    return {"train": _by_class(root)}


def _by_class(folder: Path) -> dict[str, list[Path]]:
    found = {
        child.name: sorted(file for file in child.rglob("*") if is_image(file) and file.is_file())
        for child in _folders(folder)
    }
    return {name: files for name, files in found.items() if files}


def _folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _samples(root: Path, classes: list[str], by_class: Mapping[str, list[Path]]) -> list[Sample]:
    return [
        Sample(file, label, file.relative_to(root).as_posix())
        for label, name in enumerate(classes)
        for file in by_class.get(name, [])
    ]
