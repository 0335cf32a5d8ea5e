"""A user's own images, listed in a CSV file with a header: path, label and, if wanted, split.

Paths are relative to the root. Labels are any text; classes are sorted, as numbers if all of them are numbers.
Without the split column (or without rows of val or test), splits are held out with the seed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from figkd.data.listing import Listing, Sample, require
from figkd.data.store import SplitName
from figkd.errors import DataError

DEFAULTS: dict[str, Any] = {
    "file": "labels.csv",
    "path_column": "path",
    "label_column": "label",
    "split_column": "split",
    "delimiter": ",",
    "test_fraction": 0.2,
}

LAYOUT = """\
<root>/labels.csv                          path,label[,split]; the option file names another one
<root>/<path> ..."""

SOURCE = "list your images in a CSV file whose first line names its columns"

SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Words of the split column, in any case."""


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The rows of the file; every error names its line."""
    if not 0 < options["test_fraction"] < 1:
        raise DataError(f"test_fraction is {options['test_fraction']}; it must lie between 0 and 1")
    require(root, [options["file"]], SOURCE, LAYOUT)
    path = root / options["file"]
    found = list(_rows(path, options))
    labels = sorted({label for _, _, label, _ in found}, key=_order({label for _, _, label, _ in found}))
    if len(labels) < 2:
        raise DataError(f"{path} has {len(labels)} class(es), at least 2 are needed")
    label_of = {name: label for label, name in enumerate(labels)}
    splits: dict[SplitName, list[Sample]] = {"train": []}
    line_of: dict[str, int] = {}
    missing = []
    for line, name, label, split in found:
        first = line_of.setdefault(name, line)
        if first != line:
            raise DataError(f"{path}, line {line}: {name} is listed in line {first} already", "list it once")
        if not (root / name).is_file():
            missing.append(f"line {line}: {name}")
        splits.setdefault(split, []).append(Sample(root / name, label_of[label], name))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(found)} files that {path} lists do not exist ({'; '.join(missing[:3])})",
            f"paths are relative to {root}",
        )
    return Listing(labels, splits, [path], test_fraction=options["test_fraction"])


def _rows(path: Path, options: Mapping[str, Any]) -> Iterator[tuple[int, str, str, SplitName]]:
    """Line, path, label and split of each row."""
    delimiter = options["delimiter"]
    if len(delimiter) != 1:
        raise DataError(f"delimiter is {delimiter!r}", "one character")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = list(reader.fieldnames or ())
            wanted = [options["path_column"], options["label_column"]]
            absent = [name for name in wanted if name not in columns]
            if absent:
                raise DataError(
                    f"{path}, line 1: no column {', '.join(absent)}; the columns are {', '.join(columns) or 'none'}",
                    "name yours with the options path_column and label_column",
                )
            split_column = options["split_column"]
            if split_column not in columns and split_column != DEFAULTS["split_column"]:
                raise DataError(
                    f"{path}, line 1: no column {split_column}", "correct the option split_column"
                )
            for row in reader:
                line = reader.line_num
                name, label = ((row[column] or "").strip() for column in wanted)
                if not name or not label or None in row:
                    raise DataError(f"{path}, line {line}: expected {delimiter.join(columns)}")
                word = (row.get(split_column) or "train").strip().lower()
                if word not in SPLIT_NAMES:
                    raise DataError(
                        f"{path}, line {line}: split {word!r} is none of train, val, test", "correct the line"
                    )
                yield line, name, label, SPLIT_NAMES[word]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", "save it as UTF-8 text") from error


def _order(labels: set[str]) -> Any:
    return int if all(label.isdecimal() for label in labels) else str
