"""Archives that publishers serve: plain files and folders inside of one folder, within bounds, or a refusal.

A published data set has no links, devices, absolute names or names twice; an archive that has them is not one.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from figkd.errors import DataError

_TIMES = 30
"""Content may be so many times as large as the archive: images hardly compress, lists about tenfold."""
_ALWAYS = 1 << 28
"""Bytes of content that a small archive may have in any case."""
_MEMBERS = 1 << 20
_NAME = 255
"""Bytes of a name, as file systems have it."""
_HEADER = 1 << 20
"""Bytes of one header of a tar archive, which is read into memory."""


def unpack(path: Path, content: Path) -> None:
    """Unpack a zip archive, a tar archive or a compressed one into the empty folder `content`.

    Raises:
        DataError: it is damaged, or has a member that no published archive has; what was unpacked is to be thrown away.
        OSError: the disk cannot take it.
    """
    admitted = _Admitted(path, content)
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as zipped:
                zipped.extractall(content, members=admitted.of_zip(zipped))
        else:
            with path.open("rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
                file.seek(0)
                plain: Any = _Bounded(gzip.GzipFile(fileobj=file) if packed else file)
                with plain, tarfile.open(fileobj=plain, mode="r:") as archive:
                    archive.extractall(content, members=admitted.of_tar(archive), filter="data")
    except DataError:
        raise
    except tarfile.FilterError as error:
        raise DataError(f"{path.name} is not safe to unpack: {error}", "do not use this copy") from error
    except (
        Exception
    ) as error:  # damaged archives make the readers raise anything; the disk's errors have numbers
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        if isinstance(error, UnicodeEncodeError):
            raise DataError(
                f"{path.name} has file names that this locale ({error.encoding}) cannot write",
                "set PYTHONUTF8=1, and run again",
            ) from error
        raise DataError(
            f"{path.name} is damaged: {str(error)[:200] or type(error).__name__}", "download it again"
        ) from error


class _Admitted:
    """The members of one archive that may be unpacked: looked at one after the other, as they are."""

    def __init__(self, path: Path, content: Path) -> None:
        self._archive = path.name
        self._left = max(_ALWAYS, _TIMES * path.stat().st_size)
        self._free = shutil.disk_usage(content).free
        self._folders: dict[PurePosixPath, bool] = {}

    def of_zip(self, archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
        """The members of a zip archive."""
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not member.flag_bits & 1  # encrypted
            self._admit(member.orig_filename, plain, member.is_dir(), member.file_size)
            yield member

    def of_tar(self, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        """The members of a tar archive."""
        for member in archive:
            plain = member.isdir() or (member.isreg() and not member.issparse())
            self._admit(member.name, plain, member.isdir(), member.size)
            yield member

    def _admit(self, name: str, plain: bool, folder: bool, size: int) -> None:
        place = PurePosixPath(name.replace("\\", "/"))
        if not plain or place.is_absolute() or ".." in place.parts or "\0" in name:
            raise self._unsafe(f"member {name[:200]!r}")
        if any(len(os.fsencode(part)) > _NAME for part in place.parts) or len(place.parts) > 64:
            raise self._unsafe(f"the name {name[:40]!r}... is too long")
        for outer in place.parents:
            if not self._folders.setdefault(outer, True):
                raise self._unsafe(f"{str(outer)[:200]!r} is a file and a folder")
        if self._folders.get(place, folder) is not folder or (not folder and place in self._folders):
            raise self._unsafe(f"{name[:200]!r} is there twice")
        self._folders[place] = folder
        if len(self._folders) > _MEMBERS:
            raise self._unsafe(f"it has more than {_MEMBERS:,} members")
        self._left -= size
        self._free -= size
        if size < 0 or self._left < 0:
            raise self._unsafe("its content is far larger than that of a published archive")
        if self._free < 0:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for the content of {self._archive}")

    def _unsafe(self, why: str) -> DataError:
        return DataError(f"{self._archive} is not safe to unpack: {why}", "do not use this copy")


class _Bounded:
    """A file whose reads are as small as those of members' data: a header that asks for more is no header."""

    def __init__(self, file: Any) -> None:
        self._file: BinaryIO = file

    def __enter__(self) -> _Bounded:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        """At most `_HEADER` bytes."""
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        """As of a file."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()
