"""Data sets: a registry, and the prepared data folder that every later stage reads.

A data set is turned once into a packed store (see `figkd.data.store`). Light to import: a data set's own
module is imported when it is used, and nothing here needs torch. A new data set is one module (the contract is
in `figkd.data.listing`) and one line in `DATASETS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from figkd.data import left_out
from figkd.data.content import FileDigests, contents_of, hash_files
from figkd.data.files import write_samples
from figkd.data.listing import Listing, notes
from figkd.data.options import Options
from figkd.data.settle import Settled, origins, settle, without_small_classes
from figkd.data.split import Split as Split
from figkd.data.split import open_split as open_split
from figkd.data.store import SPLITS as SPLITS
from figkd.data.store import SplitName as SplitName
from figkd.data.store import class_names as class_names
from figkd.data.store import facts as facts
from figkd.errors import DataError
from figkd.files import Json
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
_DEMANDS = {"small_classes": str, "copies": str}

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
        {"layout": str, "test_fraction": float, **_DEMANDS},
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
            **_DEMANDS,
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
            **_DEMANDS,
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


@dataclass(frozen=True)
class Examined:
    """What a data set's files tell before anything is prepared; no image is decoded or hashed.

    Attributes:
        problems: what keeps the data set from being prepared.
        listing: what its module found, without classes that the options leave out. None where there is a problem,
            and for a data set that is only read when it is prepared (it renders, or downloads, or unpacks).
    """

    problems: Sequence[DataError]
    listing: Listing | None = None

    def found(self) -> Listing | None:
        """The listing.

        Raises:
            DataError: the problem, or all of them.
        """
        if len(self.problems) > 1:
            raise DataError("; ".join(map(str, self.problems)))
        if self.problems:
            raise self.problems[0]
        return self.listing


def examine(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> Examined:
    """Look for problems, and list the images where that takes seconds at most."""
    if wrong := _obstacles(dataset, root, options):
        return Examined(wrong)
    module = load_module(dataset)
    if hasattr(module, "check") and (root is None or not hasattr(module, "LISTS_A_ROOT")):
        return Examined([])
    try:
        return Examined([], without_small_classes(module.read(root, _chosen(dataset, options))))
    except DataError as error:
        return Examined([error])


def preview(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> list[DataError]:
    """Problems that a publisher's server tells before anything large is downloaded; asks it only where `examine` cannot
    list the data."""
    module = load_module(dataset)
    return list(module.preview(root, _chosen(dataset, options))) if hasattr(module, "preview") else []


def _obstacles(dataset: str, root: Path | None, options: Mapping[str, Any] | None) -> list[DataError]:
    """Problems that are known without the listing."""
    if dataset not in DATASETS:
        return [DataError(f"unknown data set {dataset!r}", f"one of {', '.join(DATASETS)}")]
    if wrong := _option_problems(dataset, options or {}):
        return wrong
    module = load_module(dataset)
    if DATASETS[dataset].needs_root:
        help_text = f"{module.SOURCE}; expected:\n{module.LAYOUT}"
        if root is None:
            return [DataError(f"the {dataset} data set needs a root folder", help_text)]
        if not root.is_dir():
            return [DataError(f"there is no folder {root}", help_text)]
    return list(module.check(root, _chosen(dataset, options))) if hasattr(module, "check") else []


def settled(
    found: Listing, *, val_fraction: float = 0.1, seed: int = 0, digests: FileDigests = hash_files
) -> Settled:
    """The three splits as `prepare` would decode them.

    Args:
        found: of `examine`.
        val_fraction, seed: as of `prepare`.
        digests: gives the sha256 of files; may remember them.

    Raises:
        DataError: what only the contents show, such as copies in two splits.
    """
    samples = (sample for part in found.splits.values() for sample in part)
    return settle(found, contents_of(samples, digests), val_fraction=val_fraction, seed=seed)


def source_files(dataset: str, root: Path | None, options: Mapping[str, Any] | None = None) -> list[Path]:
    """Every file whose content determines the data, for hashing; empty if the data is not there."""
    if _obstacles(dataset, root, options):
        return []
    module = load_module(dataset)
    if hasattr(module, "source_files"):
        return list(module.source_files(root, _chosen(dataset, options)))
    found = examine(dataset, root, options).listing
    if found is None:
        return []
    images = {
        sample.image
        for samples in found.splits.values()
        for sample in samples
        if isinstance(sample.image, Path)
    }
    return sorted(file for file in images.union(found.lists) if file.is_file())


def unlisted_classes(
    dataset: str, root: Path | None, options: Mapping[str, Any] | None = None
) -> list[str] | None:
    """Class names by label of a data set that `examine` does not list; None where only a download tells them."""
    module = load_module(dataset)
    if not hasattr(module, "read"):  # it makes its images itself
        return list(module.CLASSES)
    if hasattr(module, "LISTS_A_ROOT") and root is None:
        return None
    try:
        return list(module.read(root, _chosen(dataset, options)).classes)
    except DataError:  # the stage that prepares the data tells it
        return None


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
    digests: FileDigests = hash_files,
    progress: Progress = no_progress,
) -> Json:
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
        digests: gives the sha256 of files, by which images are held out; may remember them.
        progress: called with images done.

    Returns:
        What data.json says.

    Raises:
        DataError: unknown data set or option, data that is missing or mostly unreadable, classes that are too small,
            copies that decide the result, sizes out of range.
    """
    if image_size < 1 or store_size < image_size:
        raise DataError(
            f"image_size {image_size} and store_size {store_size}", "1 <= image_size <= store_size"
        )
    found = examine(dataset, root, options).found()
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
    found = found or without_small_classes(module.read(root, _chosen(dataset, options)))
    chosen = settled(found, val_fraction=val_fraction, seed=seed, digests=digests)
    said |= {
        "notes": [*notes(found, getattr(module, "OFFICIAL", {})), *found.notes],
        "origins": origins(chosen),
        "left_out": left_out.summary(chosen.listing.left_out),
        "copies": chosen.copies.to_json(),
    }
    return write_samples(
        out,
        chosen.listing.classes,
        chosen.splits,
        contents=chosen.contents,
        store_size=store_size,
        facts=said,
        progress=progress,
    )


def load_module(dataset: str) -> Any:
    """The module of a data set.

    Raises:
        DataError: unknown data set.
    """
    if dataset not in DATASETS:
        raise DataError(f"unknown data set {dataset!r}", f"one of {', '.join(DATASETS)}")
    return import_module(DATASETS[dataset].module)


def _chosen(dataset: str, options: Mapping[str, Any] | None) -> Options:
    return {**load_module(dataset).DEFAULTS, **(options or {})}


def _option_problems(dataset: str, options: Mapping[str, Any]) -> list[DataError]:
    known = DATASETS[dataset].options
    wrong = [
        DataError(
            f"data set {dataset!r} has no option {name!r}", f"its options are {', '.join(known) or 'none'}"
        )
        for name in options
        if name not in known
    ]
    for name, value in options.items():
        if name in known:
            accepted = (int, float) if known[name] is float else (known[name],)
            if not isinstance(value, accepted) or (isinstance(value, bool) and known[name] is not bool):
                wrong.append(
                    DataError(
                        f"option {name!r} of data set {dataset!r} is {value!r}, not {known[name].__name__}"
                    )
                )
    return wrong
