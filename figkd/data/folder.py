"""A user's own images in folders named after their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.data.layout import ClassFolders, Layout, read_layout
from figkd.data.left_out import counted, remedies
from figkd.data.listing import Demands, Listing, Sample, check_fraction
from figkd.data.options import Options
from figkd.data.tree import walk
from figkd.errors import DataError

DEFAULTS: Options = {
    "layout": "auto",
    "test_fraction": 0.2,
    "small_classes": "refuse",
    "copies": "refuse",
}

LAYOUT = """\
<root>/<class>/*.jpg                      held out by content, with a seed; or
<root>/train|val|test/<class>/*.jpg       as given; val/ or test/ may be missing; or
<root>/<class>/train|val|test/*.jpg       the same"""

SOURCE = "put the images of each class in a folder of its own"


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """One class a folder, also one without images: it is not for the reader to forget it.

    Without test/, test is held out of what there is (option test_fraction, default 0.2), then val out of the
    rest of train; a given val/ is used as val, a given test/ as test.
    """
    fraction, demands = check_fraction(options), Demands.of(options)
    tree = walk(root)
    if not tree.has_images():
        left_out = list(tree.all_left_out())
        reasons = counted(left_out)
        raise DataError(
            f"{root} has no images{f' (left out: {reasons})' if reasons else ''}",
            remedies(left_out) or f"{SOURCE}; expected:\n{LAYOUT}",
        )
    layout = read_layout(tree, options["layout"])
    classes = sorted(layout.splits["train"])
    notes = list(layout.notes)
    for split, by_class in layout.splits.items():
        extra = sorted(name for name in set(by_class) - set(classes) if _count(by_class, name))
        if extra:
            raise DataError(
                f"classes in {split} that are not in train: {', '.join(extra[:5])}",
                "name the folders alike in every split, or remove these",
            )
        if absent := [name for name in classes if split != "train" and not _count(by_class, name)]:
            notes.append(
                f"{split} has no images of {', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''}"
            )
    return Listing(
        classes,
        {split: _samples(root, classes, by_class) for split, by_class in layout.splits.items()},
        test_fraction=fraction,
        left_out=[*tree.all_left_out(), *layout.beside],
        notes=notes,
        demands=demands,
        why=_why(layout),
        named_like_splits=layout.named,
    )


def _count(by_class: ClassFolders, name: str) -> int:
    return sum(1 for folder in by_class.get(name, ()) for _ in folder.all_images())


def _why(layout: Layout) -> dict[str, str]:
    return {
        name: counted(entry for folder in folders for entry in folder.all_left_out())
        for name, folders in layout.splits["train"].items()
    }


def _samples(root: Path, classes: list[str], by_class: ClassFolders) -> list[Sample]:
    return [
        Sample(root / place, label, place)
        for label, name in enumerate(classes)
        for folder in by_class.get(name, ())
        for place in folder.all_images()
    ]
