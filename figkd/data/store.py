"""The packed store: a prepared data folder, written whole or not at all, read through memory maps.

Layout: classes.json, data.json, and for each of train, val, test: <split>.npy uint8 [N, S, S, 3] RGB,
<split>_labels.npy int64 [N], <split>_ids.json [N], and where images come from files
<split>_contents.json [N], the sha256 of each, and test_originals.zip, some of them (`figkd.data.originals`). Where
images are decoded on the fly, <split>_files.json and root.json stand for <split>.npy (see `figkd.data.on_the_fly`).
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt

from figkd.errors import DataError
from figkd.files import Json, read_array, read_json, write_json

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out` that becomes `out` if the block succeeds and vanishes if not.

    Raises:
        DataError: `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists already", "remove it or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
    try:
        folder.chmod(0o755)
        yield folder
        os.replace(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class SplitWriter:
    """Writes one split sample by sample, in constant memory, without knowing their number beforehand."""

    def __init__(self, folder: Path, name: SplitName, side: int) -> None:
        self._folder, self._name, self._side = folder, name, side
        self._labels: list[int] = []
        self._ids: list[str] = []
        self._file = (folder / f"{name}.npy").open("wb")
        self._file.write(_header(0, side))

    def __enter__(self) -> Self:
        return self

    def append(self, image: npt.NDArray[np.uint8], label: int, sample_id: str) -> None:
        """Add an image uint8 [S, S, 3] with its label and id."""
        if image.shape != (self._side, self._side, 3) or image.dtype != np.uint8:
            raise DataError(f"an image {image.shape} {image.dtype} for a store of {self._side} px")
        self._file.write(image.tobytes())
        self._labels.append(label)
        self._ids.append(sample_id)

    def __len__(self) -> int:
        return len(self._ids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file as file:
            if error is not None:
                return
            file.seek(0)
            file.write(_header(len(self), self._side))
            file.flush()
            os.fsync(file.fileno())
        write_labels(self._folder, self._name, self._labels, self._ids)


def write_labels(folder: Path, name: str, labels: Sequence[int], ids: Sequence[str]) -> None:
    """Write what every split has beside its images: <split>_labels.npy and <split>_ids.json."""
    np.save(folder / f"{name}_labels.npy", np.array(labels, dtype=np.int64))
    write_json(folder / f"{name}_ids.json", list(ids))


def write_contents(folder: Path, name: str, contents: Sequence[str]) -> None:
    """Write <split>_contents.json: the digests of the sources of a split's images, in their order."""
    write_json(folder / f"{name}_contents.json", list(contents))


def read_contents(folder: Path, name: SplitName) -> list[str] | None:
    """What `write_contents` wrote; None if the folder does not say.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / f"{name}_contents.json"
    if not path.exists():
        return None
    found = _read_json(path)
    if not _is_texts(found):
        raise DataError(f"{path} is damaged: it is no list of digests", "prepare the data again")
    return cast("list[str]", found)


def write_facts(folder: Path, classes: Sequence[str], facts: Json) -> None:
    """Write classes.json and data.json."""
    write_json(folder / "classes.json", list(classes))
    write_json(folder / "data.json", facts)


def open_labels(folder: Path, name: SplitName) -> tuple[list[int], list[str]]:
    """Labels and ids of a split.

    Raises:
        DataError: a file is missing or damaged, or the files do not fit each other.
    """
    labels, ids = read_labels(folder, name)
    return labels.tolist(), ids


def read_labels(folder: Path, name: SplitName) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The same, the labels as int64 [N]."""
    try:
        labels = np.array(read_array(folder / f"{name}_labels.npy"))
        ids = read_json(folder / f"{name}_ids.json")
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the {name} split of {folder}: {error}", "prepare the data again"
        ) from error
    if labels.dtype != np.int64 or labels.ndim != 1 or not _is_texts(ids) or len(ids) != len(labels):
        raise DataError(f"the {name} split of {folder} is damaged", "prepare the data again")
    return labels, ids


def class_names(folder: Path) -> list[str]:
    """Names of the classes of a prepared data folder, by label.

    Raises:
        DataError: classes.json is missing or damaged.
    """
    names = _read_json(folder / "classes.json")
    if not _is_texts(names):
        raise DataError(
            f"{folder / 'classes.json'} is damaged: it is no list of names", "prepare the data again"
        )
    return cast("list[str]", names)


def facts(folder: Path) -> Json:
    """What data.json says.

    Raises:
        DataError: data.json is missing or damaged.
    """
    found = _read_json(folder / "data.json")
    if not isinstance(found, dict):
        raise DataError(f"{folder / 'data.json'} is damaged: it holds no facts", "prepare the data again")
    return found


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", "prepare the data again") from error


def _header(count: int, side: int) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
    )
    header = buffer.getvalue()
    # NumPy leaves room for the first axis to grow, so the final header overwrites the first one exactly.
    if len(header) != _HEADER_BYTES:
        raise DataError(f"a .npy header of {len(header)} bytes")
    return header


_HEADER_BYTES = 128
