"""Files by their sha256: received in part if need be, complete only when the digest is right."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from typing import Callable, Iterable

from export.runtime.files import sha256

from . import files, system
from .errors import JobError

CHUNK = 1 << 20
# Left free on the disk, for logs and for everyone else.
SPARE = 16 << 20
# Written through now and then: a slow card with all of a file still to write would be silent for too long at its end.
SYNC = 16 << 20
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
OURS = re.compile(r"^[0-9a-f]{64}(\.part)?$")
"""Names of files in the folder."""


class Blobs:
    """The folder of files that hosts sent."""

    def __init__(self, folder: str) -> None:
        self._folder = files.own_folder(os.path.join(folder, "blobs"))

    def path(self, digest: str) -> str:
        """Where a file lies, whether it is there or not."""
        if not _DIGEST.match(digest):
            raise JobError("'{}' is no sha256".format(digest), kind="request")
        return os.path.join(self._folder, digest)

    def have(self, digest: str) -> bool:
        """Whether a file is there; marks it as used."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def partial(self, digest: str) -> int:
        """Bytes of a file that came before a connection was cut."""
        return files.size_of(self.path(digest) + ".part")

    def room_for(self, size: int) -> None:
        """Refuse what the disk cannot hold."""
        free = system.free_bytes(self._folder)
        if size + SPARE > free:
            raise full(
                "{:.1f} MB more are needed, {:.1f} MB are free".format((size + SPARE) / 1e6, free / 1e6)
            )

    def receive(
        self, digest: str, offset: int, size: int, chunks: Iterable[bytes], alive: Callable[[], None]
    ) -> None:
        """Append to the part that is there; the file appears when it is whole and its digest is right.

        Args:
            digest: sha256 of the whole file.
            offset: where the chunks begin; what is there must be that long.
            size: of the whole file.
            chunks: the bytes.
            alive: called now and then in long work that receives nothing.
        """
        part = self.path(digest) + ".part"
        seen = hashlib.sha256()
        mode = "r+b" if offset else "wb"
        problem: OSError | None = None
        with open(part, mode) as file:
            for known in iter(lambda: file.read(min(CHUNK, offset - file.tell())), b"") if offset else ():
                seen.update(known)
                alive()
            synced = file.tell()
            for chunk in chunks:
                if problem is not None:
                    continue  # what is on its way must be read before anything can be said
                try:
                    file.write(chunk)
                    if file.tell() - synced > SYNC:
                        file.flush()
                        os.fdatasync(file.fileno())
                        synced = file.tell()
                        alive()
                except OSError as error:
                    problem = error
                seen.update(chunk)
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                problem = problem or error
        if problem is not None:
            files.remove(part)
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise full("it ran full while a file came in")
            raise JobError("a file could not be written: {}".format(problem.strerror), kind="disk")
        if seen.hexdigest() != digest or os.path.getsize(part) != size:
            files.remove(part)
            raise JobError("a file came with other contents than it was sent with", "run again", "damaged")
        os.replace(part, self.path(digest))

    def entries(self) -> list[tuple[str, int, float]]:
        """(name, bytes, last use) of every file that hosts sent, complete or not; the oldest first."""
        found = []
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            if OURS.match(name) and files.is_plain(path):
                facts = os.lstat(path)
                found.append((name, facts.st_size, facts.st_mtime))
        return sorted(found, key=lambda entry: entry[2])

    def shrink(self, limit: int, alive: Callable[[], None]) -> int:
        """Remove what came in part, then the files that were not used for longest, until `limit` bytes are left.

        What is not what its name says stays: somebody else put it there.
        """
        removed, kept = 0, []
        for name, size, _ in self.entries():
            if name.endswith(".part"):
                files.remove(os.path.join(self._folder, name))
                removed += size
            else:
                kept.append((name, size))
        total = sum(size for _, size in kept)
        for name, size in kept:
            if total <= limit:
                break
            total -= size
            path = os.path.join(self._folder, name)
            if is_as_named(path, alive):
                files.remove(path)
                removed += size
        return removed


def is_as_named(path: str, alive: Callable[[], None]) -> bool:
    """Whether a file's name is the digest of its content; what came in part has none yet."""
    return path.endswith(".part") or sha256(path, alive) == os.path.basename(path)


def full(detail: str) -> JobError:
    """The disk is full, or would be."""
    return JobError(
        "the disk of the work folder is full: " + detail,
        "free some space there, or set the target's remote.folder to another disk",
        "disk",
    )


def blob(folder: str, digest: str) -> str:
    """Path of an uploaded file."""
    path = os.path.join(folder, "blobs", digest)
    if not os.path.isfile(path):
        raise JobError(f"the device's folder lacks an uploaded file ({digest[:12]})", "run again", "failed")
    return path
