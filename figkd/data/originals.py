"""A few test images as the files that they came from: what a deployed model is given, with its real size and format.

They lie in a prepared data folder as `test_originals.zip`, because the files themselves may be gone, or be rows of a
table, when latency is measured. `test_contents.json` has the digest of each, so that they say nothing new of the data.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from figkd.data.listing import Sample
from figkd.errors import DataError
from figkd.files import open_regular, read_bytes, write_bytes

ORIGINALS_FILE = "test_originals.zip"
MOST_FILES = 32
MOST_BYTES = 1 << 25
"""Of all together."""
_OVERHEAD = 1 << 16
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_STRIDE = 4


def write_originals(folder: Path, samples: Sequence[Sample]) -> None:
    """Keep files of up to `MOST_FILES` samples, spread over all, as far as `MOST_BYTES` go; none where there are none.

    Args:
        folder: a prepared data folder.
        samples: those of the test split, in its order.
    """
    kept: dict[int, bytes] = {}
    left = MOST_BYTES
    for row in _spread(len(samples)):
        content = _content(samples[row], left)
        if content:
            kept[row] = content
            left -= len(content)
    if not kept:
        return
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for row in sorted(kept):
            packed.writestr(zipfile.ZipInfo(f"{row}", _LONG_AGO), kept[row])
    write_bytes(folder / ORIGINALS_FILE, buffer.getvalue())


def read_originals(folder: Path) -> list[bytes]:
    """The files in a prepared data folder; empty where its images were never files.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / ORIGINALS_FILE
    if not path.exists():
        return []
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path, MOST_BYTES + _OVERHEAD))) as packed:
            members = packed.infolist()
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
                raise DataError(f"{path} is larger than what is ever kept", "prepare the data again")
            return [packed.read(member) for member in members]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is damaged: {error}", "prepare the data again") from error


def _spread(count: int) -> list[int]:
    """Rows spread evenly over `count`, in an order in which the first few are spread as well."""
    most = min(MOST_FILES, count)
    rows = [round(i * (count - 1) / max(1, most - 1)) for i in range(most)]
    return [row for start in range(_STRIDE) for row in rows[start::_STRIDE]]


def _content(sample: Sample, most: int) -> bytes:
    """A sample's file, empty if it has none, or one of more than `most` bytes."""
    image = sample.image
    try:
        if isinstance(image, Path):
            with open_regular(image) as file:
                content = file.read(most + 1)
        elif callable(image):
            content = image()
        else:
            return b""
    except (OSError, DataError):
        return b""
    return content if len(content) <= most else b""
