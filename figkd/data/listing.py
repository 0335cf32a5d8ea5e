"""The contract of a data set's module, and the tools that the modules share.

A module has `DEFAULTS` (its options), `LAYOUT` (the expected tree), `SOURCE` (how to get it) and `read`, which
gives a `Listing` or raises a `DataError` that says what is missing. It may have `ARCHIVES` (what the publisher
serves) and `OFFICIAL` (numbers of images of the published lists); and `check` and `source_files`, where reading
the listing is slow (with `LISTS_A_ROOT`, only where there is no root). Decoding, holding out splits, counting and
writing are the same for all: see `figkd.data` and `figkd.data.settle`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from figkd.data.decode import Box, Image
from figkd.data.left_out import LeftOut
from figkd.data.matlab_file import look_through
from figkd.data.store import SplitName
from figkd.errors import DataError
from figkd.files import read_bytes

_MATLAB_BYTES = 1 << 24


@dataclass(frozen=True)
class Sample:
    """An image with its label and its id (of a file, the path relative to the data set's folder).

    `image`, `box` and `cut_bottom` are those of `figkd.data.decode.Job`.
    """

    image: Image
    label: int
    sample_id: str
    box: Box | Callable[[], Box | None] | None = None
    cut_bottom: int = 0


@dataclass(frozen=True)
class Demands:
    """What happens to a user's own data that cannot give a sound result.

    Attributes:
        small_classes: with classes that have too few images to be in every split.
        copies: with images of which there is a copy in another split or in another class.
    """

    small_classes: Literal["refuse", "leave_out"] = "refuse"
    copies: Literal["refuse", "leave_out"] = "refuse"

    @staticmethod
    def of(options: Mapping[str, Any]) -> Demands:
        """From a data set's options `small_classes` and `copies`.

        Raises:
            DataError: another word.
        """
        for name in ("small_classes", "copies"):
            if options[name] not in ("refuse", "leave_out"):
                raise DataError(f"{name} is {options[name]!r}", "refuse or leave_out")
        return Demands(options["small_classes"], options["copies"])


@dataclass(frozen=True)
class Listing:
    """The samples of a data set before anything is decoded.

    Attributes:
        classes: names by label.
        splits: samples of "train", and of "val" and "test" where they are given; others are held out of train.
        lists: files that the listing was read from; they count for the data's content, as the images do.
        test_fraction: part of train that becomes test where none is given; None if test is always given.
        left_out: what lies below the root and is not used.
        notes: what the reader concluded, in sentences.
        demands: what a user's own data must fulfil; None for published data, which are as they are.
        why: what was left out of a class, in words, where that may explain that it has few images.
        named_like_splits: whether a class is called like a split, so that the layout is worth being written down.
    """

    classes: Sequence[str]
    splits: Mapping[SplitName, Sequence[Sample]]
    lists: Sequence[Path] = field(default_factory=tuple)
    test_fraction: float | None = None
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()
    demands: Demands | None = None
    why: Mapping[str, str] = field(default_factory=dict)
    named_like_splits: bool = False


@dataclass(frozen=True)
class Archive:
    """A file that the publisher serves.

    Attributes:
        url: where.
        size: bytes; 0 if it is not known.
        checksum: "md5:..." or "sha256:..."; empty if none was ever published.
        gives: what exists in the data set's root once it is unpacked; equal to its name if it is no archive.
    """

    url: str
    size: int
    checksum: str
    gives: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.split("?")[0].rsplit("/", 1)[1]


def check_fraction(options: Mapping[str, Any]) -> float:
    """The option `test_fraction`.

    Raises:
        DataError: out of range.
    """
    fraction = float(options["test_fraction"])
    if not 0 < fraction < 1:
        raise DataError(f"test_fraction is {fraction}; it must lie between 0 and 1")
    return fraction


def label_order(label: str) -> tuple[bool, int, str]:
    """A key that sorts labels in one way only: numbers as numbers and first, equal ones (1, 01) as text."""
    return (False, int(label), label) if label.isdecimal() and len(label) < 100 else (True, 0, label)


def notes(listing: Listing, official: Mapping[str, int]) -> list[str]:
    """Where a listing has other numbers of images than the published lists: a shortened or damaged copy."""
    expected = dict(official)
    if "val" in expected and "val" not in listing.splits:
        expected["train"] += expected.pop("val")  # merged
    return [
        f"{len(samples):,} {name} images are listed, the published list has {expected[name]:,}"
        for name, samples in listing.splits.items()
        if len(samples) != expected.get(name, len(samples))
    ]


def published_folder(root: Path, name: str, marker: str) -> Path:
    """The folder that the publisher's archive unpacks to: `root` itself, or `name` inside of it."""
    inside = root / name
    return inside if (inside / marker).exists() and not (root / marker).exists() else root


def require(folder: Path, needed: Iterable[str], source: str, layout: str) -> None:
    """See that `folder` has the files and folders (with a slash at the end) of `needed`.

    Raises:
        DataError: what is missing, and how to get it.
    """
    missing = [name for name in needed if not _exists(folder / name, name.endswith("/"))]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}", f"{source}; expected:\n{layout}")


def rows(path: Path, columns: Sequence[str], separator: str | None = None) -> list[list[str]]:
    """Fields of the lines of a text file; blank lines and lines that start with # are left out.

    Args:
        path: the file.
        columns: what the fields are; the last one takes the rest of its line.
        separator: between fields; None is any white space.

    Raises:
        DataError: the file cannot be read, has no lines, or has a line with other fields.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [part.strip() for part in line.strip().split(separator, len(columns) - 1)]
        if len(fields) != len(columns):
            expected = " ".join(f"<{name}>" for name in columns)
            raise DataError(
                f"{path}, line {number}: {line.strip()!r} is not {expected}", "get the file again"
            )
        found.append(fields)
    if not found:
        raise DataError(f"{path} is empty", "get the file again")
    return found


def number(text: object, path: Path, what: str, low: int = 0, high: int | None = None) -> int:
    """A whole number of a list.

    Raises:
        DataError: it is none, or out of range.
    """
    try:
        value = float(str(text))
    except ValueError:
        value = math.nan
    if not value.is_integer() or value < low or (high is not None and value > high):
        span = f"{low} to {high}" if high is not None else f"{low} or more"
        raise DataError(
            f"{path}: {what} is {str(text)!r}, not a whole number of {span}", "get the file again"
        )
    return int(value)


def matlab(path: Path, *names: str) -> list[Any]:
    """Arrays of a MATLAB file, flattened: structs as records, text as str.

    Raises:
        DataError: the file cannot be read, or lacks a name.
    """
    from scipy.io import loadmat

    try:
        # Not mat_dtype: that would turn whole numbers into floats.
        data = read_bytes(path, _MATLAB_BYTES)
        look_through(data)
        values = loadmat(io.BytesIO(data), squeeze_me=True, chars_as_strings=True)
        return [np.atleast_1d(values[name]) for name in names]
    except Exception as error:  # scipy raises many kinds on damaged files
        raise DataError(f"{path} is not the published list: {error}", "get the file again") from error


def _exists(path: Path, folder: bool) -> bool:
    return path.is_dir() if folder else path.is_file()
