"""What a run's data are, in numbers, read from the artifact of the stage `data`; the views make the words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from figkd.data import SPLITS, SplitName
from figkd.data.settle import Origin
from figkd.data.store import class_names, facts, open_labels
from pipeline.results.evidence import Part

MOST_REASONS = 20
"""Reasons for which images could not be decoded; some name sizes, so that each image may have its own."""


class Spread(Part):
    """Pixels."""

    min: int
    median: int
    """The lower one of two."""
    max: int


class SourceImages(Part):
    """The images before they were decoded."""

    formats: dict[str, int]
    """Images by format. `array`: pixels out of a table or an archive. `rendered`: drawn here."""
    width: Spread
    height: Spread
    enlarged: int
    """Images of which the part that is used is smaller than what the network sees."""


class SplitImages(Part):
    """A split."""

    name: SplitName
    images: int
    origin: Origin
    """`rest`: what is left of the images that were given."""


class CopiedImages(Part):
    """Images of one content."""

    within: dict[str, int]
    """By split: images more than contents."""
    across: dict[str, int]
    """By "earlier, later" split: images of the later one that are in the earlier one, too."""
    contradictory: int
    """Images whose content stands under several labels."""
    examples: list[tuple[str, str]]


class Unused(Part):
    """What is not used for one reason."""

    count: int
    examples: list[str]


class DataSummary(Part):
    """The data of a run."""

    dataset: str
    image_size: int
    """Side of what the network sees, pixels."""
    store_size: int
    """Side of the decoded images, of which training cuts and the network sees the centre, pixels."""
    on_the_fly: bool
    """Images are decoded whenever they are needed."""
    splits: list[SplitImages]
    classes: list[str]
    """By output."""
    images: dict[SplitName, list[int]]
    """By split: images of each class, by output."""
    sources: SourceImages
    copies: CopiedImages | None
    """Null where they are not looked for: in images that are rendered here."""
    left_out: dict[str, Unused]
    """By reason, as in data.json: what lies beside the data."""
    skipped: dict[str, Unused]
    """By reason in words: images that could not be decoded."""
    decoding: dict[str, Any]
    """What decoding did to unusual images, as in data.json."""
    notes: list[str]
    """What the reader of the data remarked."""


def summarise(folder: Path) -> DataSummary:
    """Summarise a prepared data folder.

    Raises:
        DataError: it is damaged.
    """
    said, names = facts(folder), class_names(folder)
    labels = {split: np.asarray(open_labels(folder, split)[0], dtype=np.int64) for split in SPLITS}
    return DataSummary(
        dataset=said["dataset"],
        image_size=said["image_size"],
        store_size=said["store_size"],
        on_the_fly=said.get("decode") == "on_the_fly",
        splits=[
            SplitImages(name=split, images=said["counts"][split], origin=said["origins"][split])
            for split in SPLITS
        ],
        classes=names,
        images={split: np.bincount(labels[split], minlength=len(names)).tolist() for split in SPLITS},
        sources=SourceImages.model_validate(said["sources"]),
        copies=CopiedImages.model_validate(said["copies"]) if "copies" in said else None,
        left_out={reason: Unused.model_validate(found) for reason, found in said.get("left_out", {}).items()},
        skipped=_by_reason(said["skipped"]),
        decoding=said.get("decoding", {}),
        notes=said.get("notes", []),
    )


def _by_reason(skipped: Iterable[Mapping[str, str]]) -> dict[str, Unused]:
    found: dict[str, Unused] = {}
    for entry in skipped:
        reason = entry["reason"] if entry["reason"] in found or len(found) < MOST_REASONS else "other reasons"
        unused = found.setdefault(reason, Unused(count=0, examples=[]))
        unused.count += 1
        if len(unused.examples) < 2:
            unused.examples.append(entry["file"])
    return found
