"""A user's own images, listed in a CSV file with a header: path, label and, if wanted, split.

Paths are relative to the root; they may lead outside of it, with a note. An image is its file, however a path
spells it. Labels are any text; classes are sorted, numbers as numbers. Without the split column (or without rows of
val or test), splits are held out by content, with the seed.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figkd.data.left_out import LeftOut
from figkd.data.listing import Demands, Listing, Sample, check_fraction, label_order, require
from figkd.data.options import Options
from figkd.data.split_words import meanings
from figkd.data.store import SplitName
from figkd.data.tree import walk
from figkd.errors import DataError
from figkd.files import open_regular

DEFAULTS: Options = {
    "file": "labels.csv",
    "path_column": "path",
    "label_column": "label",
    "split_column": "split",
    "delimiter": ",",
    "test_fraction": 0.2,
    "small_classes": "refuse",
    "copies": "refuse",
}

LAYOUT = """\
<root>/labels.csv                          path,label[,split]; the option file names another one
<root>/<path> ..."""

SOURCE = "list your images in a CSV file whose first line names its columns"

# What lies beside the listed images is counted up to this many entries: the root may be a whole disk.
_MOST_TIMES, _MOST_BESIDE = 20, 100_000


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The rows of the file; every error names its line."""
    fraction, demands = check_fraction(options), Demands.of(options)
    require(root, [options["file"]], SOURCE, LAYOUT)
    path = root / options["file"]
    found = list(_rows(path, options))
    classes = sorted({row.label for row in found}, key=label_order)
    label_of = {name: label for label, name in enumerate(classes)}
    split_of = meanings({row.split for row in found})
    splits: dict[SplitName, list[Sample]] = {"train": []}
    place = _Places(root)
    first_of: dict[str, _Row] = {}
    missing: list[_Row] = []
    for row in found:
        if row.split not in split_of:
            raise DataError(
                f"{path}, line {row.line}: split {row.split!r} is not one of train, val, test",
                "correct the line",
            )
        sample_id = place.of(row.path)
        first = first_of.setdefault(sample_id, row)
        if first is not row:
            same = f", as {first.path}" if first.path != row.path else ""
            raise DataError(
                f"{path}, line {row.line}: {row.path} is listed in line {first.line} already{same}",
                "list it once",
            )
        if not os.path.isfile(root / row.path):
            missing.append(row)
        splits.setdefault(split_of[row.split], []).append(
            Sample(root / row.path, label_of[row.label], sample_id)
        )
    if missing:
        named = "; ".join(f"line {row.line}: {row.path}" for row in missing[:3])
        raise DataError(
            f"{len(missing)} of {len(found)} files that {path} lists do not exist ({named})",
            f"paths are relative to {root}{_slashes(root, missing)}",
        )
    outside = [name for name in first_of if os.path.isabs(name)]
    left_out, unlooked = _not_listed(root, path, first_of)
    return Listing(
        classes,
        splits,
        [path],
        test_fraction=fraction,
        left_out=left_out,
        notes=[*_remarks(classes, outside), *unlooked],
        demands=demands,
    )


def _slashes(root: Path, missing: Sequence[_Row]) -> str:
    r"""A hint where the paths are another system's: a\b.jpg is a/b.jpg there, and the name of one file here."""
    meant = any("\\" in row.path and os.path.isfile(root / row.path.replace("\\", "/")) for row in missing)
    return ", and folders end with a slash: write / for \\" if meant else ""


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str


class _Places:
    """What a path of the list means: the file itself, however it is spelt and whatever links lead to it."""

    def __init__(self, root: Path) -> None:
        self._root, self._real = root, os.path.realpath(root)

    def of(self, path: str) -> str:
        """Where the file is, relative to the root, or absolute if it lies outside."""
        real = os.path.realpath(self._root / path)
        inside = os.path.commonpath([real, self._real]) == self._real
        return Path(os.path.relpath(real, self._real)).as_posix() if inside else real


def _not_listed(root: Path, path: Path, listed: Collection[str]) -> tuple[list[LeftOut], list[str]]:
    """What lies below the root and is not listed; a note where there is too much of it to be counted."""
    try:
        tree = walk(root, _MOST_TIMES * len(listed) + _MOST_BESIDE)
    except DataError:
        return [], [
            f"{root} holds far more files than {path.name} lists; what it does not list was not counted"
        ]
    place = _Places(root)
    unlisted = [LeftOut(image, "not_listed") for image in tree.all_images() if place.of(image) not in listed]
    # The list and its like are no images and nobody takes them for such.
    return [*(entry for entry in tree.all_left_out() if entry.reason != "not_image"), *unlisted], []


def _remarks(classes: Sequence[str], outside: Sequence[str]) -> list[str]:
    notes = []
    if outside:
        notes.append(f"{len(outside):,} listed images lie outside of the root, e.g. {outside[0]}")
    numbers: dict[int, list[str]] = {}
    for name in classes:
        if name.isdecimal() and len(name) < 100:
            numbers.setdefault(int(name), []).append(name)
    if same := [names for names in numbers.values() if len(names) > 1]:
        notes.append(f"labels that are one number are different classes: {', '.join(same[0])}")
    return notes


def _rows(path: Path, options: Mapping[str, Any]) -> Iterator[_Row]:
    """The rows; the split is a word in lower case."""
    delimiter = options["delimiter"]
    if len(delimiter) != 1:
        raise DataError(f"delimiter is {delimiter!r}", "one character")
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
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
                if "\0" in name:
                    raise DataError(f"{path}, line {line}: {name!r} is no path", "correct the line")
                yield _Row(line, name, label, (row.get(split_column) or "").strip().lower() or "train")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", "save it as UTF-8 text") from error
