"""Images that stay in their files and are decoded whenever they are asked for.

The fallback where a packed store would be too large: a prepared data folder then holds lists of files,
<split>_files.json, relative to the folder that root.json names. The pixels are those that a packed store would
hold: both come from `figkd.data.decode`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from figkd.data.decode import Job, Pixels, decode_many
from figkd.data.levels import Rules, from_json
from figkd.data.room import usable_cpus
from figkd.data.store import write_labels
from figkd.errors import DataError
from figkd.files import Json, read_json, write_json

ROOT_FILE = "root.json"
_MOST_SIDE = 1 << 14


class FileImages:
    """An array uint8 [N, S, S, 3] whose rows are decoded, in parallel, when they are read.

    An index on the first axis (a number, a slice, an array of integers or of booleans) decodes the rows asked for
    and gives an ordinary array. A full slice on the first axis with slices on the others, such as
    `images[:, 16:240, 16:240]`, decodes nothing: it gives the same images, cut. Safe to read from several threads.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        jobs: Sequence[Job],
        side: int,
        rules: Rules,
        workers: int | None = None,
        cut: tuple[slice, ...] = (),
    ) -> None:
        self._jobs, self._side, self._rules, self._cut = jobs, side, rules, cut
        self._workers = workers or usable_cpus()
        inner = np.broadcast_to(np.uint8(0), (side, side, 3))[cut].shape
        self.shape = (len(jobs), *inner)

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded images."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, key: Any) -> Any:
        rows, *inner = key if isinstance(key, tuple) else (key,)
        if rows is None or rows is Ellipsis:
            raise IndexError("images that are decoded on the fly are indexed by rows first")
        if isinstance(rows, slice) and rows == slice(None):
            if self._cut or not all(isinstance(part, slice) for part in inner):
                return np.asarray(self)[(rows, *inner)]
            return FileImages(self._jobs, self._side, self._rules, self._workers, tuple(inner))
        # NumPy knows what its indices mean.
        chosen = np.arange(len(self))[rows]
        decoded = self._decode(np.atleast_1d(chosen).ravel())
        shaped = decoded.reshape(*chosen.shape, *self.shape[1:])
        return shaped[(*(slice(None),) * chosen.ndim, *inner)] if inner else shaped

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        whole = self._decode(np.arange(len(self)))
        return whole if dtype is None else whole.astype(dtype)

    def astype(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """All images, decoded, as another type."""
        return self.__array__(dtype)

    def _decode(self, rows: npt.NDArray[np.int64]) -> Pixels:
        jobs = [self._jobs[row] for row in rows]
        images = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        decoded = decode_many(jobs, self._side, min(self._workers, len(jobs)), self._rules)
        for image, job, found in zip(images, jobs, decoded, strict=True):
            if isinstance(found, DataError):
                raise DataError(
                    f"{job.image} could be decoded when the data were prepared, and cannot now: {found.what}",
                    "put the file back, or prepare the data again",
                )
            image[...] = found.pixels[self._cut]
        return images


class FileListWriter:
    """Writes the file list of one split; the counterpart of `figkd.data.store.SplitWriter`."""

    def __init__(self, folder: Path, name: str, root: Path) -> None:
        self._folder, self._name, self._root = folder, name, root
        self._labels: list[int] = []
        self._ids: list[str] = []
        self._files: list[Json] = []

    def __enter__(self) -> Self:
        return self

    def append(self, job: Job, label: int, sample_id: str) -> None:
        """Add a file with its label and id."""
        self._files.append(_to_json(job, self._root))
        self._labels.append(label)
        self._ids.append(sample_id)

    def __len__(self) -> int:
        return len(self._ids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            write_labels(self._folder, self._name, self._labels, self._ids)
            write_json(_list_path(self._folder, self._name), self._files)


def common_root(jobs: Sequence[Job]) -> Path:
    """The deepest folder that holds all files, absolute.

    Raises:
        DataError: an image that is not a file of its own.
    """
    return Path(os.path.commonpath([str(_file(job).absolute().parent) for job in jobs]))


def write_root(folder: Path, root: Path) -> None:
    """Say where the files of a prepared data folder lie."""
    write_json(folder / ROOT_FILE, {"root": str(root)})


def has_file_list(folder: Path, name: str) -> bool:
    """Whether a split of a prepared data folder is decoded on the fly."""
    return _list_path(folder, name).is_file()


def open_files(folder: Path, name: str) -> FileImages:
    """The images of a split that is decoded on the fly.

    Raises:
        DataError: a list is missing or damaged, or the folder of the files is gone.
    """
    try:
        root = Path(read_json(folder / ROOT_FILE)["root"])
        said = read_json(folder / "data.json")
        side = int(said["store_size"])
        rules = from_json(said.get("decoding", {}).get("levels", {}))
        listed = read_json(_list_path(folder, name))
        jobs = [_from_json(entry, root) for entry in listed]
        if not 0 < side <= _MOST_SIDE:
            raise ValueError(f"a side of {side} pixels")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(
            f"cannot read the {name} split of {folder}: {error}", "prepare the data again"
        ) from error
    if not root.is_dir():
        raise DataError(
            f"the images are not in {root} any more, and they are decoded on the fly",
            "put them back, or prepare the data again",
        )
    return FileImages(jobs, side, rules)


def _list_path(folder: Path, name: str) -> Path:
    return folder / f"{name}_files.json"


def _file(job: Job) -> Path:
    if not isinstance(job.image, Path):
        raise DataError(
            "this data set's images are not files, and cannot be decoded on the fly", "decode them ahead"
        )
    return job.image


def _to_json(job: Job, root: Path) -> Json:
    entry: Json = {"file": _file(job).absolute().relative_to(root).as_posix()}
    if box := job.box() if callable(job.box) else job.box:
        entry["box"] = list(box)
    if job.cut_bottom:
        entry["cut_bottom"] = job.cut_bottom
    return entry


def _from_json(entry: Json, root: Path) -> Job:
    file, box, cut = Path(entry["file"]), entry.get("box", ()), entry.get("cut_bottom", 0)
    if file.is_absolute() or ".." in file.parts:
        raise ValueError(f"{str(file)[:200]!r} is no file below {root}")
    if type(cut) is not int or len(box) not in (0, 4) or not all(type(edge) in (int, float) for edge in box):
        raise ValueError(f"{str(file)[:200]!r} has an invalid box")
    return Job(root / file, cast("Any", tuple(box) or None), cut)
