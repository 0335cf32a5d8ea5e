"""Made-up data for tests of the views; no number in it was counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from figkd.data import SplitName
from pipeline.report.contact_sheet import ContactSheet, Picture, Strip
from pipeline.results.data_summary import CopiedImages, DataSummary, SourceImages, SplitImages, Spread, Unused

_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def data_sample(classes: Sequence[str], **changes: Any) -> DataSummary:
    """Sound data, rendered; `changes` replace fields."""
    images: dict[SplitName, list[int]] = {
        "train": [600] * len(classes),
        "val": [50] * len(classes),
        "test": [100] * len(classes),
    }
    images = changes.pop("images", images)
    fields: dict[str, Any] = {
        "dataset": "fonts",
        "image_size": 32,
        "store_size": 40,
        "on_the_fly": False,
        "splits": [
            SplitImages(name=name, images=sum(counts), origin="rendered") for name, counts in images.items()
        ],
        "classes": list(classes),
        "images": images,
        "sources": SourceImages(
            formats={"rendered": sum(map(sum, images.values()))},
            width=Spread(min=40, median=40, max=40),
            height=Spread(min=40, median=40, max=40),
            enlarged=0,
        ),
        "copies": None,
        "left_out": {},
        "skipped": {},
        "decoding": {},
        "notes": [],
    }
    return DataSummary(**fields | changes)


def data_sample_messy(classes: Sequence[str] = ("oak", "ash", "elm")) -> DataSummary:
    """Of everything that can be said, something."""
    images: dict[SplitName, list[int]] = {
        "train": [400, 40, 7, *[100] * (len(classes) - 3)],
        "val": [40, 4, 1, *[10] * (len(classes) - 3)],
        "test": [80, 8, 2, *[20] * (len(classes) - 3)],
    }
    return data_sample(
        classes,
        dataset="image_folder",
        image_size=224,
        store_size=256,
        on_the_fly=True,
        images=images,
        splits=[
            SplitImages(name="train", images=447, origin="rest"),
            SplitImages(name="val", images=45, origin="held_out"),
            SplitImages(name="test", images=90, origin="given"),
        ],
        sources=SourceImages(
            formats={"JPEG": 500, "PNG": 82},
            width=Spread(min=60, median=640, max=4000),
            height=Spread(min=40, median=480, max=3000),
            enlarged=100,
        ),
        copies=CopiedImages(
            within={"train": 20, "val": 0, "test": 0},
            across={"train, val": 0, "train, test": 1, "val, test": 0},
            contradictory=2,
            examples=[("oak/1.jpg", "ash/1.jpg")],
        ),
        left_out={
            "hidden": Unused(count=1, examples=[".cache/"]),
            "empty": Unused(count=3, examples=["oak/a.jpg", "oak/b.jpg", "oak/c.jpg"]),
        },
        skipped={"damaged": Unused(count=4, examples=["oak/d.jpg", "elm/e.jpg"])},
        decoding={
            "levels": {"integer": [0, 4095]},
            "remarks": {"invisible": {"images": 1, "example": "oak/f.png"}},
        },
        notes=["test has no images of elm"],
    )


def sheet_sample(data: DataSummary) -> ContactSheet:
    """Three pictures of each class."""
    return ContactSheet(
        [Strip(name, [Picture(_PIXEL, f"{name}/{n}.png") for n in range(3)]) for name in data.classes[:60]],
        max(0, len(data.classes) - 60),
    )
