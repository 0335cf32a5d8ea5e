"""Data sets of the Hugging Face hub, and local folders that its library `datasets` reads.

`datasets` is an optional package. The image and the label column are found by their types; options name them where
there are several. Nothing of the data set's own code is run. A data set of the hub needs a revision, so that
it cannot change unnoticed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from figkd.data.left_out import LeftOut
from figkd.data.listing import Demands, Listing, Sample, check_fraction, label_order
from figkd.data.options import Options
from figkd.data.split_words import assign, meanings
from figkd.data.store import SPLITS, SplitName
from figkd.errors import DataError
from figkd.files import read_bytes

DEFAULTS: Options = {
    "name": "",
    "config": "",
    "revision": "",
    "image_column": "",
    "label_column": "",
    "train_split": "",
    "val_split": "",
    "test_split": "",
    "test_fraction": 0.2,
    "small_classes": "refuse",
    "copies": "refuse",
}

LAYOUT = """\
<root>/ as written by save_to_disk(), or with Parquet files, or an image folder; or no root and the option name"""

SOURCE = "pip install 'figkd-pipeline[hf]'"

LISTS_A_ROOT = True
"""A local folder is listed before anything is prepared; a data set of the hub needs a download."""

_LABELS = ("label", "labels", "fine_label", "class", "target", "category")


def is_one(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`, or holds Parquet files (in `data/`, as on the hub)."""
    if _saved(folder):
        return True
    return any(next(place.glob("*.parquet"), None) for place in (folder, folder / "data"))


def _saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def check(root: Path | None, options: Mapping[str, Any]) -> list[DataError]:
    """What is missing; the data set is not opened."""
    if importlib.util.find_spec("datasets") is None:
        return [DataError("the hf_datasets data set needs the package datasets", SOURCE)]
    try:
        check_fraction(options)
        Demands.of(options)
    except DataError as error:
        return [error]
    name = options["name"]
    if (root is None) == (not name):
        return [
            DataError(
                "hf_datasets needs either a root folder or the option name (of a data set on the hub)",
                "give one",
            )
        ]
    if root is not None and not root.is_dir():
        return [DataError(f"there is no folder {root}", f"expected:\n{LAYOUT}")]
    if name and not options["revision"]:
        return [
            DataError(
                "the option revision is missing",
                f"give a commit of https://huggingface.co/datasets/{name}/commits/main, so that the data cannot "
                "change unnoticed",
            )
        ]
    return []


def preview(root: Path | None, options: Mapping[str, Any]) -> list[DataError]:
    """What the hub's description of a data set decides before its images are downloaded: that it is there, and which
    splits and columns it has, as far as it says. Of a local folder nothing: it is listed."""
    if root is not None:
        return []
    try:
        about = _opened(options).info
        if about.features:
            _columns(about.features, options)
        if about.splits:
            _split_names(list(about.splits), options)
    except DataError as error:
        return [error]
    return []


def source_files(root: Path | None, options: Mapping[str, Any]) -> list[Path]:
    """All files of a local folder; of a data set on the hub none: name and revision say what it is."""
    return [] if root is None else sorted(file for file in root.rglob("*") if file.is_file())


def read(root: Path | None, options: Mapping[str, Any]) -> Listing:
    """The splits under their usual names; a missing test or val is held out of train."""
    found = _load(root, options)
    chosen = _split_names(list(found), options)
    image, label = _columns(found[chosen["train"]].features, options)
    tables = {split: _with_bytes(found[name], image) for split, name in chosen.items()}
    values = {split: table[label] for split, table in tables.items()}
    classes, label_of = _classes(tables["train"].features[label], values)
    splits: dict[SplitName, list[Sample]] = {
        split: [
            Sample(partial(_bytes, table, index, image), label_of[value], f"{chosen[split]}/{index:06d}")
            for index, value in enumerate(values[split])
            if value in label_of  # -1 and null mean unlabelled
        ]
        for split, table in tables.items()
    }
    for split, samples in splits.items():
        if not samples:
            raise DataError(f"the {chosen[split]} split has no labels", f"choose another {split}_split")
    unlabelled = {split: sum(value not in label_of for value in column) for split, column in values.items()}
    unused = [name for name in found if name not in chosen.values()]
    return Listing(
        classes,
        splits,
        test_fraction=options["test_fraction"],
        left_out=[
            *(LeftOut(chosen[split], "unlabelled", count) for split, count in unlabelled.items() if count),
            *(LeftOut(name, "unused_split", len(found[name])) for name in unused),
        ],
        demands=Demands.of(options),
    )


def _quiet() -> Any:
    """The library `datasets`, whose own progress and logs are off: the one that asked shows its own."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what fails is raised too
    return datasets


def _opened(options: Mapping[str, Any]) -> Any:
    """A data set of the hub without its images; `load_dataset` begins with the same."""
    try:
        return _quiet().load_dataset_builder(
            options["name"], options["config"] or None, revision=options["revision"]
        )
    except Exception as error:  # the library raises anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"datasets cannot open {options['name']}: {reason}",
            "see the options name, config and revision, the network, and for a data set with restricted access "
            "`hf auth login`",
        ) from error


def _load(root: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    datasets = _quiet()
    try:
        if root is None:
            loaded = datasets.load_dataset(
                options["name"], options["config"] or None, revision=options["revision"]
            )
        elif _saved(root):
            loaded = datasets.load_from_disk(str(root))
        else:
            loaded = datasets.load_dataset(str(root), options["config"] or None)
    except Exception as error:  # the library raises anything: network, format, a config that is missing
        what = root if root is not None else options["name"]
        raise DataError(f"datasets cannot load {what}: {error}", "see the package's documentation") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _split_names(there: list[str], options: Mapping[str, Any]) -> dict[SplitName, str]:
    asked: dict[SplitName, str] = {
        split: options[f"{split}_split"] for split in SPLITS if options[f"{split}_split"]
    }
    for split, name in asked.items():
        if name not in there:
            raise DataError(f"option {split}_split is {name!r}; the splits are {', '.join(there)}")
        if second := next((other for other in asked if asked[other] == name and other != split), None):
            raise DataError(
                f"options {split}_split and {second}_split both take {name!r}", "give each another split"
            )
    others = assign(
        name for name in there if name not in asked.values() and meanings(there).get(name) not in asked
    )
    chosen = {split: name for split in SPLITS if (name := asked.get(split) or others.get(split, ""))}
    if "train" not in chosen:
        taken = next((split for split, name in asked.items() if meanings(there).get(name) == "train"), None)
        raise DataError(
            f"option {taken}_split takes {asked[taken]!r}, and no split is left for training"
            if taken
            else f"there is no train split among {', '.join(there)}",
            "name it with the option train_split",
        )
    return chosen


def _columns(features: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, str]:
    from datasets import ClassLabel, Image

    images = [name for name, kind in features.items() if isinstance(kind, Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    labels = labels or [name for name in _LABELS if name in features]
    return (
        _column("image_column", images, features, options),
        _column("label_column", labels, features, options),
    )


def _column(
    option: str, candidates: list[str], features: Mapping[str, Any], options: Mapping[str, Any]
) -> str:
    wanted = options[option]
    if wanted and wanted not in features:
        raise DataError(f"option {option} is {wanted!r}; the columns are {', '.join(features)}")
    if not wanted and len(candidates) != 1:
        which = f"several ({', '.join(candidates)})" if candidates else "none"
        raise DataError(
            f"of the columns {', '.join(features)}, {which} may be the {option.partition('_')[0]}",
            f"name it with the option {option}",
        )
    return str(wanted or candidates[0])


def _classes(feature: Any, values: Mapping[SplitName, list[Any]]) -> tuple[list[str], dict[Any, int]]:
    names = getattr(feature, "names", None)
    if names:
        return list(names), {label: label for label in range(len(names))}
    found = {value for column in values.values() for value in column if value is not None and value == value}
    numbers = all(isinstance(value, int | float) for value in found)
    ordered = sorted(
        found, key=lambda value: (value if numbers else 0, label_order(str(value)), type(value).__name__)
    )
    return [str(value) for value in ordered], {value: label for label, value in enumerate(ordered)}


def _with_bytes(table: Any, image: str) -> Any:
    """The table with encoded images instead of decoded ones: decoding is `figkd.data.decode`'s."""
    from datasets import Image

    return table.cast_column(image, Image(decode=False))


def _bytes(table: Any, index: int, image: str) -> bytes:
    value = table[index][image]
    if value is None:
        raise DataError("no image")
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    try:
        return read_bytes(Path(value["path"]))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"its file cannot be read: {error}") from error
