"""scikit-learn's digits (Alpaydin and Kaynak 1998): 1,797 grey images of 8 x 8 pixels, 10 classes.

A sanity check that needs no download: small, and easy. The images are enlarged to the size that is asked for. There is
no official split; test and validation are held out with the seed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from figkd.data.listing import Listing, Sample
from figkd.data.options import Options
from figkd.errors import DataError

DEFAULTS: Options = {"test_fraction": 0.2}

LAYOUT = "no files: they come with scikit-learn"

SOURCE = "pip install 'figkd-pipeline[study]'"


def check(root: Path | None, options: Mapping[str, Any]) -> list[DataError]:
    """Whether scikit-learn is there."""
    fraction = options["test_fraction"]
    if not 0 < fraction < 1:
        return [DataError(f"test_fraction is {fraction}", "it must lie between 0 and 1")]
    return [] if _file().is_file() else [DataError("the digits data set needs scikit-learn", SOURCE)]


def source_files(root: Path | None, options: Mapping[str, Any]) -> list[Path]:
    """The table of pixels inside of scikit-learn."""
    return [_file()]


def read(root: Path | None, options: Mapping[str, Any]) -> Listing:
    """All images, to be split."""
    # The file is read as it is: scikit-learn takes a second to import.
    table = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    if table.ndim != 2 or table.shape[1] != 65 or not 0 <= table.min() <= table.max() <= 16:
        raise DataError(f"{_file()} is not the table of 64 grey values and a digit a line", SOURCE)
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    samples = [
        Sample(image, int(label), f"{index:04d}")
        for index, (image, label) in enumerate(zip(images, table[:, 64], strict=True))
    ]
    names = [str(digit) for digit in range(10)]
    return Listing(names, {"train": samples}, test_fraction=options["test_fraction"])


def _file() -> Path:
    spec = importlib.util.find_spec("sklearn")
    folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else Path("sklearn")
    return folder / "datasets" / "data" / "digits.csv.gz"
