"""Files that are written whole or not at all, and read within bounds.

`export/runtime/files.py` reads in the same bounds: it goes to devices without this package, and neither imports the
other.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy.typing as npt

Json = dict[str, Any]
"""A JSON object, as it is read and written."""
LIMIT = 1 << 28
"""Bytes of a JSON or text file that are read where nothing smaller is said."""
DEPTH = 64
"""Levels of nesting that are read."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        # mkstemp makes private files; an artifact gets the permissions that a plain open() would give.
        os.fchmod(handle, 0o666 & ~_umask())
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            error.filename = str(path)  # a write that fails does not say where
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, the same bytes for the same value."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read.

    Raises:
        OSError: it is missing, cannot be read, or is a folder, a FIFO or a device.
    """
    # A plain open() of a FIFO without a writer waits for ever.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """A regular file's content, of at most `limit` bytes; a FIFO or a device is refused without waiting for it.

    Raises:
        OSError: it is missing, cannot be read, or is no regular file.
        ValueError: it is larger.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return data


def read_json(path: Path, limit: int = LIMIT) -> Any:
    """A JSON file's value: UTF-8, at most `limit` bytes and `DEPTH` levels deep.

    Raises:
        OSError: as `read_bytes`.
        ValueError: it is larger or deeper, or is not JSON.
    """
    return parse_json(read_bytes(path, limit))


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text of at most `DEPTH` levels, whose texts can be written as UTF-8.

    Raises:
        ValueError: it is deeper, or is not JSON.
    """
    text = data if isinstance(data, str) else data.decode("utf-8")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} levels deep") from None
    level = [value]
    for _ in range(DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError(f"it is nested more than {DEPTH} levels deep")
    if "\\u" in text:  # an escaped half of a surrogate pair is a text that cannot be printed
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def read_array(path: Path) -> npt.NDArray[Any]:
    """An array that numpy.save wrote, memory-mapped and read-only: as large as the file, and of no Python objects.

    Raises:
        OSError: as `read_bytes`.
        ValueError: the file is not one array, or is cut off.
    """
    import numpy as np

    open_regular(path).close()
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:  # of an empty file, of one that begins like a zip archive
        raise ValueError(f"it holds no array ({type(error).__name__})") from error
    if not isinstance(found, np.ndarray):
        raise ValueError("it holds several arrays")
    return found


def _inside(value: Any) -> Iterable[Any]:
    """The containers in a container."""
    values: Iterable[Any] = ()
    if isinstance(value, dict):
        values = value.values()
    elif isinstance(value, list):
        values = value
    return (inner for inner in values if isinstance(inner, dict | list))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8; the bytes of others stand in it as surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
