"""Fetching what a publisher still serves: resumable, checked, unpacked whole or not at all.

A file is fetched to ROOT/.downloads/NAME, from where it stopped the last time; its checksum is compared; it is
unpacked beside its place (`figkd.data.unpack`) and moved there. What is refused does not stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from figkd.data import DATASETS, load_module
from figkd.data.listing import Archive
from figkd.data.unpack import unpack
from figkd.errors import DataError
from figkd.progress import Progress, no_progress

ATTEMPTS = 4
"""How often a connection that broke is taken up again before giving up."""

_PAUSE_S = 1.0
_TIMEOUT_S = 60.0
_LEAST = 1 << 16
"""Bytes that have to come in that time."""
_LARGEST = 20 << 30
"""Bytes of a file whose size was never published."""
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)
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
            try:
                _fetch(source, file, archive, archive.size or min(_LARGEST, free // 2), progress)
                _verify(path, archive)
            except BaseException:
                if not os.fstat(file.fileno()).st_size:
                    path.unlink(missing_ok=True)
                raise
        if archive.gives == archive.name:
            os.replace(path, root / archive.name)
        else:
            with _unpacked(path, archive) as content:
                _move(content, root, archive)
            path.unlink()
    except OSError as error:
        raise DataError(f"cannot write to {root}: {error}", "check the folder and the disk") from error
    finally:
        with contextlib.suppress(OSError):  # another file, or its beginning, may be in it
            folder.rmdir()


def _lock(file: BinaryIO, root: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(f"another download into {root} is running", "wait for it") from error


def _fetch(source: str, file: BinaryIO, archive: Archive, most: int, progress: Progress) -> None:
    """Append to `file` what it lacks, up to `most` bytes in all; takes a broken connection up again."""
    for attempt in range(ATTEMPTS):
        try:
            if _fetch_rest(source, file, archive, most, progress):
                return
            problem = "the connection broke"
        except HTTPError as error:
            if error.code < 500:
                raise DataError(
                    f"{source}: the server says {error.code} {str(error.reason)[:200]}",
                    "the publisher may have moved it; give a mirror with --url, or get it by hand",
                ) from error
            problem = f"the server says {error.code} {str(error.reason)[:200]}"
        except (OSError, HTTPException, ValueError) as error:  # of an address that is none
            if getattr(error, "errno", None) in _OF_THE_DISK:
                raise
            problem = str(getattr(error, "reason", "") or error or type(error).__name__)
        if attempt + 1 < ATTEMPTS:
            time.sleep(_PAUSE_S * 2**attempt)
    raise DataError(
        f"{source}: {problem}, after {file.tell():,} bytes",
        "run the same command again: it continues from there",
    )


def _fetch_rest(source: str, file: BinaryIO, archive: Archive, most: int, progress: Progress) -> bool:
    """One connection; whether the file is complete afterwards."""
    have = file.seek(0, os.SEEK_END)
    if archive.size and have == archive.size:
        return True
    request = Request(source, headers={"User-Agent": "figkd-pipeline", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = cast(HTTPResponse, build_opener(_Redirects).open(request, timeout=_TIMEOUT_S))
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
        length = _announced(source, answer.headers.get("Content-Length"))
        total = archive.size if length is None else have + length
        if archive.size and total != archive.size:
            raise DataError(
                f"{source} has {total:,} bytes, published were {archive.size:,}",
                "it is not the published file; give a mirror with --url, or get it by hand",
            )
        progress(have, total, archive.name)
        pace = _Pace()
        # Not read(), which would wait for a whole chunk however slowly its bytes come.
        while chunk := answer.read1(_CHUNK):
            have += len(chunk)
            if have > most or total > most:
                file.truncate(0)
                raise DataError(
                    f"{source} sends more than the {most:,} bytes that it may have",
                    "it is not the published file; give a mirror with --url, or get it by hand",
                )
            file.write(chunk)
            progress(have, total, archive.name)
            pace.count(len(chunk))
        file.flush()
    return not total or have == total


def _announced(source: str, text: str | None) -> int | None:
    """The length that a server announces, if it does."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise DataError(
            f"{source}: the server announces {text[:40]!r} bytes",
            "it does not serve files; give a mirror with --url, or get it by hand",
        )
    return int(text)


class _Pace:
    """Sees that bytes keep coming: one now and then would keep a connection for ever."""

    def __init__(self) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def count(self, size: int) -> None:
        """Count bytes that came; OSError if they were too few for too long."""
        self._bytes += size
        if time.monotonic() - self._since > _TIMEOUT_S:
            if self._bytes < _LEAST:
                raise TimeoutError(f"the server sent {self._bytes:,} bytes in {_TIMEOUT_S:g} s")
            self._since, self._bytes = time.monotonic(), 0


class _Redirects(HTTPRedirectHandler):
    """Follows to http and https only, and not from the one that is encrypted to the other."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request that a redirection asks for."""
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise HTTPError(newurl, code, f"see {newurl[:200]}, which is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
def _unpacked(path: Path, archive: Archive) -> Iterator[Path]:
    """Give a temporary folder with the content of an archive; an archive that is refused is removed."""
    if path.suffix != ".zip" and not hasattr(tarfile, "data_filter"):
        raise DataError("this Python cannot unpack tar files safely", "Python 3.11.4 or newer")
    content = Path(tempfile.mkdtemp(dir=path.parent, suffix=".tmp"))
    try:
        try:
            unpack(path, content)
            if not (content / archive.gives).exists():
                raise DataError(
                    f"{archive.name} does not hold {archive.gives}", "it is not the published file"
                )
        except DataError as error:
            path.unlink()
            raise DataError(f"{error.what}; it was removed", error.fix) from error
        yield content
    finally:
        shutil.rmtree(content, ignore_errors=True)


def _move(content: Path, root: Path, archive: Archive) -> None:
    """Move what was unpacked to its place; the part that says that it is complete comes last."""
    last = PurePosixPath(archive.gives).parts[0]
    for entry in sorted(content.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
        place = root / entry.name
        # A try that was killed here has moved some of the same files.
        if os.path.lexists(place) and not (place.is_file() and filecmp.cmp(entry, place, shallow=False)):
            raise DataError(f"{place} is in the way of what {archive.name} holds", "move it away")
        os.replace(entry, place)
