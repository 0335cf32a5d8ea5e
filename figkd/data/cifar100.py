"""CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32 x 32 pixels, as published.

Reads the "python" version, which is a pickle, and the "binary" version; both give the same data. A pickle can
name any function to be called while it is read, so this one is read with stand-ins for the three names that a
NumPy array needs, and with nothing else: no code from the file, or from NumPy, runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from figkd import pickles
from figkd.data.listing import Archive, Listing, Sample, published_folder, require, rows
from figkd.data.options import Options
from figkd.data.store import SplitName
from figkd.errors import DataError
from figkd.files import read_bytes

DEFAULTS: Options = {"labels": "fine"}

LAYOUT = """\
<root>/cifar-100-python/train, test, meta
or
<root>/cifar-100-binary/train.bin, test.bin, fine_label_names.txt, coarse_label_names.txt
or the files of either of them in <root>"""

SOURCE = (
    "figkd-pipeline download cifar100 ROOT, or by hand cifar-100-python.tar.gz "
    "from https://www.cs.toronto.edu/~kriz/cifar.html"
)

OFFICIAL = {"train": 50_000, "test": 10_000}

# Size and checksum of the binary version, which needs no unpickling, as recorded by TensorFlow Datasets
# (url_checksums/cifar100.txt).
ARCHIVES = (
    Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        168_513_733,
        "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        "cifar-100-binary",
    ),
)

_SPLITS: tuple[SplitName, ...] = ("train", "test")
_SIDE = 32
_MOST_BYTES = 1 << 28
_IMAGE_BYTES = 3 * _SIDE * _SIDE
_COARSE, _FINE = 0, 1  # order of the label bytes of a record


def check(root: Path, options: Mapping[str, Any]) -> list[DataError]:
    """What is missing; the arrays themselves are not read."""
    try:
        _files(root, options)
    except DataError as error:
        return [error]
    return []


def source_files(root: Path, options: Mapping[str, Any]) -> list[Path]:
    """The files of the version that is there."""
    return sorted(_files(root, options).values())


def read(root: Path, options: Mapping[str, Any]) -> Listing:
    """The official splits with the 100 fine or the 20 coarse labels."""
    files = _files(root, options)
    level = options["labels"]
    if "meta" in files:
        names = [
            _text(name, files["meta"])
            for name in _entry(_unpickle(files["meta"]), f"{level}_label_names", list, files["meta"])
        ]
    else:
        names = [name for (name,) in rows(files["names"], ("name",))]
    splits: dict[SplitName, list[Sample]] = {}
    for split in _SPLITS:
        path = files[split]
        images, labels = _read_binary(path, level) if path.suffix == ".bin" else _read_pickle(path, level)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            raise DataError(f"{path} has labels that have no name", SOURCE)
        upright = images.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)  # stored as planes
        splits[split] = [
            Sample(image, int(label), f"{split}/{index:05d}")
            for index, (image, label) in enumerate(zip(upright, labels, strict=True))
        ]
    return Listing(names, splits)


def _files(root: Path, options: Mapping[str, Any]) -> dict[str, Path]:
    level = options["labels"]
    if level not in ("fine", "coarse"):
        raise DataError(f"labels is {level!r}", "fine or coarse")
    folder = published_folder(root, "cifar-100-binary", "train.bin")
    if (folder / "train.bin").is_file():
        files = {"train": "train.bin", "test": "test.bin", "names": f"{level}_label_names.txt"}
    else:
        folder = published_folder(root, "cifar-100-python", "train")
        files = {"train": "train", "test": "test", "meta": "meta"}
    require(folder, files.values(), SOURCE, LAYOUT)
    return {key: folder / name for key, name in files.items()}


def _read_binary(path: Path, level: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    try:
        data = np.frombuffer(read_bytes(path, _MOST_BYTES), dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", SOURCE) from error
    if not len(data) or len(data) % (2 + _IMAGE_BYTES):
        raise DataError(f"{path} does not consist of records of {2 + _IMAGE_BYTES} bytes", SOURCE)
    records = data.reshape(-1, 2 + _IMAGE_BYTES)
    return records[:, 2:], records[:, _FINE if level == "fine" else _COARSE].astype(np.int64)


def _read_pickle(path: Path, level: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    values = _unpickle(path)
    labels = _entry(values, f"{level}_labels", list, path)
    if not all(type(label) is int and abs(label) < 1 << 31 for label in labels):
        raise DataError(f"{path} has labels that are not whole numbers", SOURCE)
    images = _entry(values, "data", _Array, path).pixels()
    if images is None or images.shape != (len(labels), _IMAGE_BYTES):
        raise DataError(f"{path} does not hold {len(labels)} images of {_IMAGE_BYTES} bytes", SOURCE)
    return images, np.array(labels, dtype=np.int64)


def _unpickle(path: Path) -> dict[Any, Any]:
    try:
        value = pickles.load(read_bytes(path, _MOST_BYTES), _STAND_INS, encoding="bytes")
    except pickles.Refused as error:
        raise DataError(
            f"{path} is not the published file: {error}", f"do not use this copy; {SOURCE}"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", SOURCE) from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is not the published file: it holds a {type(value).__name__}", SOURCE)
    return value


def _entry(values: dict[Any, Any], key: str, kind: type[Any], path: Path) -> Any:
    found = values.get(key.encode(), values.get(key))
    if not isinstance(found, kind):
        raise DataError(f"{path} is not the published file: it has no {key}", SOURCE)
    return found


def _text(value: object, path: Path) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise DataError(f"{path} is not the published file: a name is a {type(value).__name__}", SOURCE)
    return text


@dataclass
class _Dtype:
    """Stands in for numpy.dtype: remembers what it was asked for."""

    code: object = None
    align: object = None
    copy: object = None

    def keep(self, state: object) -> None:
        """Byte order and fields, which bytes do not have."""


class _Array:
    """Stands in for numpy.ndarray: keeps its state, from which only an array of bytes is made."""

    state: object = ()

    def keep(self, state: object) -> None:
        """Take shape, type and bytes."""
        self.state = state

    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """The array, if it is one of bytes in the usual order."""
        try:
            _, shape, dtype, column_order, data = cast("tuple[Any, ...]", self.state)
            if dtype.code in (b"u1", "u1") and not column_order and isinstance(data, bytes):
                return np.frombuffer(data, dtype=np.uint8).reshape(shape)
        except (ValueError, TypeError, AttributeError):
            pass
        return None


def _new_array(*_: object) -> _Array:
    return _Array()


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickles.Refused(f"it asks for the encoding {encoding!r:.40}")
    return text.encode("latin1")


# What the published file names (Python 2, old NumPy), and what newer versions write for the same.
_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
}
