"""Fetching what a publisher still serves: resumable, checked, unpacked whole or not at all.

A file is fetched to ROOT/.downloads/NAME, from where it stopped the last time; its checksum is compared; it is
unpacked beside its place and moved there. A member that would land outside, a link that leads outside and a device
file are refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from figkd.data import DATASETS, load_module
from figkd.data.listing import Archive
from figkd.errors import DataError
from figkd.progress import Progress, no_progress

ATTEMPTS = 4
"""How often a connection that broke is taken up again before giving up."""

_PAUSE_S = 1.0
_TIMEOUT_S = 60.0
_CHUNK = 1 << 20
_FOLDER = ".downloads"


def archives(dataset: str) -> tuple[Archive, ...]:
    """What the publisher of a data set serves; empty if it has to be got by hand, or needs no files.

    Raises:
        DataError: unknown data set.
    """
    return tuple(getattr(load_module(dataset), "ARCHIVES", ()))


def download(
    dataset: str, root: Path, *, url: str | None = None, progress: Progress = no_progress
) -> list[str]:
    """Fetch and unpack a data set into `root`; what is there already is kept.

    Args:
        dataset: a key of `figkd.data.DATASETS`.
        root: the folder to fill; made if need be.
        url: a mirror: a folder on a server that holds the files under their published names.
        progress: called with bytes done.

    Returns:
        Names of the files that were fetched; empty if everything was there.

    Raises:
        DataError: nobody serves it, no connection, a wrong checksum, an unsafe or damaged archive, no space.
    """
    served = archives(dataset)
    if not served:
        module = load_module(dataset)
        if DATASETS[dataset].needs_root:
            fix = f"{module.SOURCE}; expected:\n{module.LAYOUT}"
        else:
            fix = getattr(module, "SOURCE", module.LAYOUT)
        raise DataError(f"{dataset} is not downloaded by this program", fix)
    if url is not None and urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url} is not an http or https address", "give the folder that holds the files")
    fetched = []
    for archive in served:
        if (root / archive.gives).exists():
            continue
        source = f"{url.rstrip('/')}/{archive.name}" if url else archive.url
        _get(archive, source, root, progress)
        fetched.append(archive.name)
    return fetched


def _get(archive: Archive, source: str, root: Path, progress: Progress) -> None:
    folder = root / _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # An archive and its content, which is about as large.
        free, needed = shutil.disk_usage(folder).free, 2 * archive.size
        if free < needed:
            raise DataError(
                f"{archive.name} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {root}",
                "free some space, or choose another folder",
            )
        path = folder / archive.name
        with path.open("ab") as file:
            _lock(file, root)
            _fetch(source, file, archive, progress)
            _verify(path, archive)
        if archive.gives == archive.name:
            os.replace(path, root / archive.name)
        else:
            with _unpacked(path, folder) as content:
                _move(content, root, archive)
            path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise DataError(f"cannot write to {root}: {error}", "check the folder and the disk") from error


def _lock(file: BinaryIO, root: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"another download into {root} is running", "wait for it") from error


def _fetch(source: str, file: BinaryIO, archive: Archive, progress: Progress) -> None:
    """Append to `file` what it lacks; takes a broken connection up again."""
    for attempt in range(ATTEMPTS):
        try:
            if _fetch_rest(source, file, archive, progress):
                return
            problem = "the connection broke"
        except HTTPError as error:
            if error.code < 500:
                raise DataError(
                    f"{source}: the server says {error.code} {error.reason}",
                    "the publisher may have moved it; give a mirror with --url, or get it by hand",
                ) from error
            problem = f"the server says {error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            problem = str(getattr(error, "reason", "") or error or type(error).__name__)
        if attempt + 1 < ATTEMPTS:
            time.sleep(_PAUSE_S * 2**attempt)
    raise DataError(
        f"{source}: {problem}, after {file.tell():,} bytes",
        "run the same command again: it goes on from there",
    )


def _fetch_rest(source: str, file: BinaryIO, archive: Archive, progress: Progress) -> bool:
    """One connection; whether the file is complete afterwards."""
    have = file.seek(0, os.SEEK_END)
    if archive.size and have == archive.size:
        return True
    request = Request(source, headers={"User-Agent": "figkd-pipeline", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = cast(HTTPResponse, urlopen(request, timeout=_TIMEOUT_S))
    except HTTPError as error:
        if error.code == 416 and have:  # nothing after what we have: complete, or something else altogether
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return True
            file.truncate(0)
            return False
        raise
    with answer:
        if answer.status != 206:  # the whole file from its beginning
            file.truncate(0)
            have = 0
        elif not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            file.truncate(0)
            return False
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else archive.size
        if archive.size and total != archive.size:
            raise DataError(
                f"{source} has {total:,} bytes, published were {archive.size:,}",
                "it is not the published file; give a mirror with --url, or get it by hand",
            )
        progress(have, total, archive.name)
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            progress(have, total, archive.name)
        file.flush()
    return not total or have == total


def _verify(path: Path, archive: Archive) -> None:
    if not archive.checksum:
        return
    kind, _, expected = archive.checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != expected:
        path.unlink()
        raise DataError(
            f"{archive.name} has the {kind} {found}, published was {expected}; it was removed",
            "run the same command again, or give a mirror with --url",
        )


@contextmanager
def _unpacked(path: Path, folder: Path) -> Iterator[Path]:
    """Give a temporary folder with the content of an archive."""
    content = Path(tempfile.mkdtemp(dir=folder, suffix=".tmp"))
    try:
        try:
            if path.suffix == ".zip":
                _unzip(path, content)
            elif not hasattr(tarfile, "data_filter"):
                raise DataError("this Python cannot unpack tar files safely", "Python 3.11.4 or newer")
            else:
                with tarfile.open(path) as archive:
                    archive.extractall(content, filter="data")
        except tarfile.FilterError as error:
            raise DataError(f"{path.name} is not safe to unpack: {error}", "do not use this copy") from error
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError) as error:
            path.unlink()
            raise DataError(
                f"{path.name} is damaged: {error}; it was removed", "download it again"
            ) from error
        yield content
    finally:
        shutil.rmtree(content, ignore_errors=True)


def _unzip(path: Path, content: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = PurePosixPath(member.filename.replace("\\", "/"))
            kind = stat.S_IFMT(member.external_attr >> 16)
            if name.is_absolute() or ".." in name.parts or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(
                    f"{path.name} is not safe to unpack: member {member.filename!r}", "do not use this copy"
                )
        archive.extractall(content)  # checks the CRC of each member


def _move(content: Path, root: Path, archive: Archive) -> None:
    """Move what was unpacked to its place; the part that says that it is complete comes last."""
    if not (content / archive.gives).exists():
        raise DataError(f"{archive.name} does not hold {archive.gives}", "it is not the published file")
    last = PurePosixPath(archive.gives).parts[0]
    for entry in sorted(content.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
        place = root / entry.name
        if place.is_dir():
            raise DataError(f"{place} is in the way of what {archive.name} holds", "move it away")
        os.replace(entry, place)
