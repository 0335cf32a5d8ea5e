"""Data sets: a registry, and the prepared data folder that every later stage reads.

A data set is turned once into a packed store (see `figkd.data.store`). Light to import: a data set's own
module is imported when it is used, and nothing here needs torch. A new data set is one module (the contract is
in `figkd.data.listing`) and one line in `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from figkd.data.files import write_samples
from figkd.data.listing import Listing, complete, notes
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
        module: its module; `figkd.data.listing` says what that has to offer.
        needs_root: whether it reads files of the user's.
        options: names of its options with their types' names.
        photos: photographs of any size, customarily stored with a margin around the evaluation view (256 for
            224 px); False for images that all have one small size.
    """

    summary: str
    module: str
    needs_root: bool
    options: Mapping[str, type]
    photos: bool = True


_BOXES = {"crop_boxes": bool}

DATASETS: dict[str, DatasetInfo] = {
    "fonts": DatasetInfo(
        "21 look-alike type faces, rendered on the spot; no download",
        "figkd.data.fonts",
        False,
        {"train_per_class": int, "val_per_class": int, "test_per_class": int},
        photos=False,
    ),
    "digits": DatasetInfo(
        "10 handwritten digits of 8 x 8 pixels from scikit-learn, a sanity check; no download",
        "figkd.data.digits",
        False,
        {"test_fraction": float},
        photos=False,
    ),
    "image_folder": DatasetInfo(
        "your own images, in folders named after their classes",
        "figkd.data.folder",
        True,
        {"test_fraction": float},
    ),
    "csv": DatasetInfo(
        "your own images, listed in a CSV file",
        "figkd.data.csv_list",
        True,
        {
            "file": str,
            "path_column": str,
            "label_column": str,
            "split_column": str,
            "delimiter": str,
            "test_fraction": float,
        },
    ),
    "hf_datasets": DatasetInfo(
        "a data set of the Hugging Face hub, or a local folder that its library reads",
        "figkd.data.hf",
        False,
        {
            "name": str,
            "config": str,
            "revision": str,
            "image_column": str,
            "label_column": str,
            "train_split": str,
            "val_split": str,
            "test_split": str,
            "test_fraction": float,
        },
    ),
    "cub200": DatasetInfo("CUB-200-2011, 200 birds", "figkd.data.cub200", True, _BOXES),
    "stanford_dogs": DatasetInfo(
        "Stanford Dogs, 120 breeds, in its published layout", "figkd.data.stanford_dogs", True, _BOXES
    ),
    "stanford_cars": DatasetInfo("Stanford Cars, 196 cars", "figkd.data.stanford_cars", True, _BOXES),
    "fgvc_aircraft": DatasetInfo(
        "FGVC-Aircraft, 100 variants, 70 families or 30 manufacturers",
        "figkd.data.fgvc_aircraft",
        True,
        {"level": str, "crop_boxes": bool, "cut_banner": bool, "merge_val": bool},
    ),
    "flowers102": DatasetInfo(
        "Oxford Flowers, 102 flowers", "figkd.data.flowers102", True, {"merge_val": bool}
    ),
    "oxford_pets": DatasetInfo("Oxford-IIIT Pets, 37 cats and dogs", "figkd.data.oxford_pets", True, {}),
    "food101": DatasetInfo("Food-101, 101 dishes", "figkd.data.food101", True, {}),
    "mit67": DatasetInfo("MIT Indoor, 67 scenes", "figkd.data.mit67", True, {}),
    "stanford40": DatasetInfo("Stanford 40 Actions", "figkd.data.stanford40", True, {}),
    "cifar100": DatasetInfo(
        "CIFAR-100, 100 fine or 20 coarse classes of 32 x 32 pixels",
        "figkd.data.cifar100",
        True,
        {"labels": str},
        photos=False,
    ),
    "tiny_imagenet": DatasetInfo(
        "Tiny ImageNet, 200 classes of 64 x 64 pixels", "figkd.data.tiny_imagenet", True, {}, photos=False
    ),
}
"""Every data set by name."""


def check(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> list[str]:
    """Problems that keep a data set from being prepared, as messages "what; what to do"; no image is decoded."""
    return _examine(dataset, root, options)[0]


def _examine(
    dataset: str, root: Path | None, options: Mapping[str, Any] | None
) -> tuple[list[str], Listing | None]:
    """The problems, and the listing if looking for them has read it: that can take seconds."""
    if dataset not in DATASETS:
        return [f"unknown data set {dataset!r}; one of {', '.join(DATASETS)}"], None
    problems = _option_problems(dataset, options or {})
    if problems:
        return problems, None
    module, chosen = load_module(dataset), _chosen(dataset, options)
    if DATASETS[dataset].needs_root:
        help_text = f"{module.SOURCE}; expected:\n{module.LAYOUT}"
        if root is None:
            return [f"the {dataset} data set needs a root folder; {help_text}"], None
        if not root.is_dir():
            return [f"there is no folder {root}; {help_text}"], None
    if hasattr(module, "check"):
        return list(module.check(root, chosen)), None
    try:
        return [], module.read(root, chosen)
    except DataError as error:
        return [f"{error.what}; {error.fix}" if error.fix else error.what], None


def source_files(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> list[Path]:
    """Every file whose content determines the data, for hashing; empty if the data is not there."""
    problems, listing = _examine(dataset, root, options)
    if problems:
        return []
    module, chosen = load_module(dataset), _chosen(dataset, options)
    if hasattr(module, "source_files"):
        return list(module.source_files(root, chosen))
    listing = listing or module.read(root, chosen)
    assert listing is not None  # `read` gives one or raises
    images = {
        sample.image
        for samples in listing.splits.values()
        for sample in samples
        if isinstance(sample.image, Path)
    }
    return sorted(file for file in images.union(listing.lists) if file.is_file())


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
    problems, listing = _examine(dataset, root, options)
    if problems:
        raise DataError("; ".join(problems))
    said = {"dataset": dataset, "image_size": image_size, "seed": seed, "options": dict(options or {})}
    if decode == "on_the_fly":
        said["decode"] = decode
    module = load_module(dataset)
    if hasattr(module, "prepare"):  # it makes its images itself
        if decode == "on_the_fly":
            raise DataError(f"the {dataset} data set has no files to decode on the fly", "decode it ahead")
        return dict(
            module.prepare(
                root,
                out,
                store_size=store_size,
                val_fraction=val_fraction,
                seed=seed,
                options=dict(options or {}),
                facts=said,
                progress=progress,
            )
        )
    listing = listing or module.read(root, _chosen(dataset, options))
    assert listing is not None  # `read` gives one or raises
    if found := notes(listing, getattr(module, "OFFICIAL", {})):
        said["notes"] = found
    splits = complete(listing, val_fraction, seed)
    return write_samples(out, listing.classes, splits, store_size=store_size, facts=said, progress=progress)


def load_module(dataset: str) -> Any:
    """The module of a data set.

    Raises:
        DataError: unknown data set.
    """
    if dataset not in DATASETS:
        raise DataError(f"unknown data set {dataset!r}", f"one of {', '.join(DATASETS)}")
    return import_module(DATASETS[dataset].module)


def _chosen(dataset: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**load_module(dataset).DEFAULTS, **(options or {})}


def _option_problems(dataset: str, options: Mapping[str, Any]) -> list[str]:
    known = DATASETS[dataset].options
    problems = [
        f"data set {dataset!r} has no option {name!r}; its options are {', '.join(known) or 'none'}"
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
