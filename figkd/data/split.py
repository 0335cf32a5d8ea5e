"""A split of a prepared data folder, opened: from the packed store, or from a list of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from figkd.data.on_the_fly import has_file_list, open_files
from figkd.data.store import SplitName, read_labels
from figkd.errors import DataError
from figkd.files import read_array


@dataclass(frozen=True)
class Split:
    """One split of a prepared data folder.

    Attributes:
        images: uint8 [N, S, S, 3] RGB, read-only: memory-mapped, or a `FileImages` that decodes what is read.
        labels: int64 [N].
        ids: N names of the samples.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    ids: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def open_split(folder: Path, name: SplitName) -> Split:
    """Open a split of a prepared data folder.

    Raises:
        DataError: a file is missing or damaged, or the files do not fit each other.
    """
    try:
        if has_file_list(folder, name):
            # Not an array, but its consumers only use what both have: rows, slices, shape, dtype, nbytes.
            images = cast("npt.NDArray[np.uint8]", open_files(folder, name))
        else:
            images = read_array(folder / f"{name}.npy")
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the {name} split of {folder}: {error}", "prepare the data again"
        ) from error
    labels, ids = read_labels(folder, name)
    pictures = (
        images.dtype == np.uint8 and images.ndim == 4 and images.shape[1:] == (*images.shape[1:2] * 2, 3)
    )
    if not pictures or len(images) != len(labels):
        raise DataError(f"the {name} split of {folder} is damaged", "prepare the data again")
    return Split(images, labels, ids)
