"""Data sets: a registry, and the prepared data folder that every later stage reads.

A data set is turned once into a packed store (see `figkd.data.store`). Light to import: a data set's own
module is imported when it is used, and nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from figkd.data.store import SPLITS as SPLITS
from figkd.data.store import Split as Split
from figkd.data.store import SplitName as SplitName
from figkd.data.store import class_names as class_names
from figkd.data.store import facts as facts
from figkd.data.store import open_split as open_split
from figkd.errors import DataError
from figkd.progress import Progress, no_progress


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that can be prepared.

    Attributes:
        summary: one line.
        module: the module with its `check`, `source_files`, `prepare`, `DEFAULTS` and `LAYOUT`.
        needs_root: whether it reads files of the user's.
        options: names of its options with their types' names.
    """

    summary: str
    module: str
    needs_root: bool
    options: Mapping[str, type]


class Dataset(Protocol):
    """What a data set's module offers."""

    DEFAULTS: dict[str, Any]
    LAYOUT: str

    def check(self, root: Path | None, options: Mapping[str, Any]) -> list[str]:
        """Problems that keep it from being prepared."""

    def source_files(self, root: Path | None, options: Mapping[str, Any]) -> list[Path]:
        """Files whose content determines the data."""

    def prepare(
        self,
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
        """Write the prepared data folder."""


DATASETS: dict[str, DatasetInfo] = {
    "fonts": DatasetInfo(
        "21 look-alike type faces, rendered on the spot; no download",
        "figkd.data.fonts",
        False,
        {"train_per_class": int, "val_per_class": int, "test_per_class": int},
    ),
    "image_folder": DatasetInfo(
        "your own images, in folders named after their classes",
        "figkd.data.folder",
        True,
        {"test_fraction": float},
    ),
    "stanford_dogs": DatasetInfo(
        "Stanford Dogs, 120 breeds, in its published layout",
        "figkd.data.stanford_dogs",
        True,
        {"crop_boxes": bool},
    ),
}
"""Every data set by name."""


def check(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> list[str]:
    """Problems that keep a data set from being prepared, as messages; cheap, no image is decoded."""
    if dataset not in DATASETS:
        return [f"unknown data set {dataset!r}; one of {', '.join(DATASETS)}"]
    chosen = dict(options or {})
    problems = _option_problems(dataset, chosen)
    return problems or _module(dataset).check(root, chosen)


def source_files(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> list[Path]:
    """Every file whose content determines the data, for hashing; empty if the data is not there."""
    return _module(dataset).source_files(root, dict(options or {}))


def prepare(
    dataset: str,
    root: Path | None,
    out: Path,
    *,
    image_size: int,
    store_size: int,
    val_fraction: float = 0.1,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    decode: Literal["ahead", "on_the_fly"] = "ahead",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Turn a data set into a prepared data folder; the same bytes for the same sources and arguments.

    Args:
        dataset: a key of `DATASETS`.
        root: where its files are; None for a data set that needs none.
        out: the folder to make; must not exist, or be empty. Written whole or not at all.
        image_size: side of the evaluation view, pixels.
        store_size: side of the stored images, pixels, >= image_size.
        val_fraction: part of the training images that becomes the validation split, where none is given.
        seed: of every random choice.
        options: the data set's own.
        decode: "ahead" packs the decoded images; "on_the_fly" keeps a list of files, which must then stay where
            they are. Either way every image is decoded now, once, to find those that cannot be.
        progress: called with images done.

    Returns:
        What data.json says.

    Raises:
        DataError: unknown data set or option, data that is missing or mostly unreadable, sizes out of range.
    """
    if image_size < 1 or store_size < image_size:
        raise DataError(
            f"image_size {image_size} and store_size {store_size}", "1 <= image_size <= store_size"
        )
    problems = check(dataset, root, options)
    if problems:
        raise DataError("; ".join(problems))
    said = {"dataset": dataset, "image_size": image_size, "seed": seed, "options": dict(options or {})}
    if decode == "on_the_fly":
        if not DATASETS[dataset].needs_root:
            raise DataError(f"the {dataset} data set has no files to decode on the fly", "decode it ahead")
        said["decode"] = decode
    return _module(dataset).prepare(
        root,
        out,
        store_size=store_size,
        val_fraction=val_fraction,
        seed=seed,
        options=dict(options or {}),
        facts=said,
        progress=progress,
    )


def _option_problems(dataset: str, options: Mapping[str, Any]) -> list[str]:
    known = DATASETS[dataset].options
    problems = [
        f"data set {dataset!r} has no option {name!r}; its options are {', '.join(known)}"
        for name in options
        if name not in known
    ]
    for name, value in options.items():
        if name in known:
            accepted = (int, float) if known[name] is float else (known[name],)
            if not isinstance(value, accepted) or (isinstance(value, bool) and known[name] is not bool):
                problems.append(
                    f"option {name!r} of data set {dataset!r} is {value!r}, not {known[name].__name__}"
                )
    return problems


def _module(dataset: str) -> Dataset:
    if dataset not in DATASETS:
        raise DataError(f"unknown data set {dataset!r}", f"one of {', '.join(DATASETS)}")
    return cast(Dataset, import_module(DATASETS[dataset].module))
