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

from figkd.data.listing import Listing, Sample
from figkd.data.store import SplitName
from figkd.errors import DataError

DEFAULTS: dict[str, Any] = {
    "name": "",
    "config": "",
    "revision": "",
    "image_column": "",
    "label_column": "",
    "train_split": "",
    "val_split": "",
    "test_split": "",
    "test_fraction": 0.2,
}

LAYOUT = """\
<root>/ as written by save_to_disk(), or with Parquet files, or an image folder; or no root and the option name"""

SOURCE = "pip install 'figkd-pipeline[hf]'"

_USUAL: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
_LABELS = ("label", "labels", "fine_label", "class", "target", "category")


def check(root: Path | None, options: Mapping[str, Any]) -> list[str]:
    """What is missing; the data set is not opened."""
    if importlib.util.find_spec("datasets") is None:
        return [f"the hf_datasets data set needs the package datasets; {SOURCE}"]
    if not 0 < options["test_fraction"] < 1:
        return [f"test_fraction is {options['test_fraction']}; it must lie between 0 and 1"]
    name = options["name"]
    if (root is None) == (not name):
        return [
            "hf_datasets needs either a root folder or the option name (of a data set on the hub); give one"
        ]
    if root is not None and not root.is_dir():
        return [f"there is no folder {root}; expected:\n{LAYOUT}"]
    if name and not options["revision"]:
        return [
            f"the option revision is missing; give a commit of https://huggingface.co/datasets/{name}/commits/main, "
            "so that the data cannot change unnoticed"
        ]
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
    return Listing(classes, splits, test_fraction=options["test_fraction"])


def _load(root: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    import datasets

    try:
        if root is None:
            loaded = datasets.load_dataset(
                options["name"], options["config"] or None, revision=options["revision"]
            )
        elif (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
            loaded = datasets.load_from_disk(str(root))
        else:
            loaded = datasets.load_dataset(str(root), options["config"] or None)
    except Exception as error:  # the library raises anything: network, format, a config that is missing
        what = root if root is not None else options["name"]
        raise DataError(f"datasets cannot load {what}: {error}", "see the package's documentation") from error
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _split_names(there: list[str], options: Mapping[str, Any]) -> dict[SplitName, str]:
    chosen: dict[SplitName, str] = {}
    for split, usual in _USUAL.items():
        option = f"{split}_split"
        wanted = options[option]
        if wanted and wanted not in there:
            raise DataError(f"option {option} is {wanted!r}; the splits are {', '.join(there)}")
        taken = [options[f"{other}_split"] for other in _USUAL if other != split]
        name = wanted or next((name for name in usual if name in there and name not in taken), "")
        if name:
            chosen[split] = name
    if "train" not in chosen:
        raise DataError(
            f"there is no train split among {', '.join(there)}", "name it with the option train_split"
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
    found = sorted({value for column in values.values() for value in column if value is not None})
    return [str(value) for value in found], {value: label for label, value in enumerate(found)}


def _with_bytes(table: Any, image: str) -> Any:
    """The table with encoded images instead of decoded ones: decoding is `figkd.data.decode`'s."""
    from datasets import Image

    return table.cast_column(image, Image(decode=False))


def _bytes(table: Any, index: int, image: str) -> bytes:
    value = table[index][image]
    if value is None:
        raise DataError("no image")
    return bytes(value["bytes"]) if value["bytes"] is not None else Path(value["path"]).read_bytes()
