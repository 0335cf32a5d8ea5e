"""A folder written whole or not at all, which replaces only what was written here and is unchanged since."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from export.errors import ExportError
from export.folders import settle, sync, write_new
from export.runtime.bundle import canonical
from export.runtime.bundle.errors import BundleRefused
from export.runtime.bundle.folder import listing, read_file

RECORD = "figkd-export.json"
"""In the folder: which releases it was made of, and the SHA-256 of each of its files."""
_FORMAT = 1
_MOST_RECORD = 1 << 22

Content = bytes | Callable[[], bytes]
"""Of a file; a function is called when it is written, so that one engine at a time is in memory."""


class InTheWay(ExportError):
    """Something that was not written here lies where a folder is to be written."""


def write_folder(out: Path, files: Mapping[str, Content], kind: str, releases: Sequence[str]) -> bool:
    """Write files into the folder `out`; False where it already is that very folder.

    Args:
        out: absent, empty, or an earlier output of the same kind that nobody changed, which is replaced.
        files: by path within the folder.
        kind: of output, such as `triton`.
        releases: ids of the bundles that it is made of.

    Raises:
        InTheWay: `out` is something else.
        OSError: the disk refuses.
    """
    out = Path(os.path.abspath(out))
    old = _recorded(out, kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        fresh = draft / "new"
        digests = {name: _write(fresh / name, content) for name, content in files.items()}
        said = {"format": _FORMAT, "kind": kind, "releases": list(releases), "files": digests}
        record = canonical.encode(said)
        write_new(fresh / RECORD, record)
        if old == record:
            return False
        settle(fresh)
        _replace(fresh, out, draft / "old")
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _recorded(out: Path, kind: str) -> bytes | None:
    """The record of an earlier output that may be replaced; None where there is nothing.

    Raises:
        InTheWay: something else is there.
    """
    fix = "name another folder, or move this one away"
    if not os.path.lexists(out):
        return None
    if out.is_symlink() or not out.is_dir():
        raise InTheWay(f"{out} is no folder", fix)
    if not any(out.iterdir()):
        return None
    try:
        found = listing(str(out))
        if RECORD not in found or found[RECORD] > _MOST_RECORD:
            raise InTheWay(f"{out} was not written by this command", fix)
        data = read_file(str(out), RECORD, found.pop(RECORD))
        said = canonical.decode(data, RECORD)
        if not isinstance(said, dict) or said.get("kind") != kind or not isinstance(said.get("files"), dict):
            raise InTheWay(f"{out} holds another kind of export", fix)
        digests: dict[str, str] = said["files"]
        for name in sorted(digests.keys() ^ found.keys()):
            how = "is missing" if name in digests else "was added"
            raise InTheWay(f"{out} was changed since it was written: {name} {how}", fix)
        for name, size in found.items():
            if hashlib.sha256(read_file(str(out), name, size)).hexdigest() != digests[name]:
                raise InTheWay(f"{out} was changed since it was written: {name} is another", fix)
    except BundleRefused as error:
        raise InTheWay(f"{out} was changed since it was written: {error.what}", fix) from error
    return data


def _replace(fresh: Path, out: Path, aside: Path) -> None:
    if os.path.lexists(out):
        os.rename(out, aside)
    try:
        os.rename(fresh, out)
    except BaseException:
        if os.path.lexists(aside):
            os.rename(aside, out)
        raise
    sync(out.parent)


def _write(path: Path, content: Content) -> str:
    """Write a file; its SHA-256."""
    data = content if isinstance(content, bytes) else content()
    write_new(path, data)
    return hashlib.sha256(data).hexdigest()
