"""A bundle to where artifacts lie, and back: only what is missing is sent, and everything is checked that comes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from export.errors import ExportError
from export.progress import Progress, no_progress
from export.publish.folder import InTheWay
from export.publish.modelpack import (
    MOST_MANIFEST,
    Contents,
    Descriptor,
    artifact_of,
    check_contents,
    contents_of,
    digest_of,
)
from export.publish.source import Source
from export.runtime.bundle.errors import BundleRefused
from export.runtime.bundle.manifest import NAME, parse_manifest
from export.runtime.bundle.verify import UNSIGNED, Bundle, Choice, Unsigned, check_signatures, open_bundle
from export.runtime.files import write_bytes


class Place(Protocol):
    """Where an artifact lies: a registry, or a folder of the OCI image layout."""

    def manifest(self) -> bytes:
        """Its manifest, of at most `MOST_MANIFEST` bytes."""
        ...

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is there."""
        ...

    def put(self, blob: Descriptor, data: bytes) -> None:
        """Bring a blob."""
        ...

    def blocks(self, blob: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob in parts, not checked."""
        ...

    def put_manifest(self, data: bytes) -> None:
        """Bring the manifest, after everything that it names."""
        ...


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    digest: str
    """Of the manifest."""
    uploaded: int
    """Blobs."""
    present: int
    """Blobs that were there."""
    bytes: int
    """That were sent, without the manifest."""


def push(source: Source, place: Place, progress: Progress = no_progress) -> Pushed:
    """Bring a bundle, and the signatures beside it.

    Raises:
        ExportError: the place refuses, or cannot be reached.
        BundleRefused: a file changed since the bundle was opened.
    """
    artifact = artifact_of(source)
    uploaded = sent = 0
    for number, (blob, content) in enumerate(artifact.blobs.items()):
        progress(number, len(artifact.blobs), f"{uploaded} uploaded")
        if not place.has(blob):
            place.put(blob, content if isinstance(content, bytes) else source.bundle.read(content))
            uploaded, sent = uploaded + 1, sent + blob.size
    place.put_manifest(artifact.manifest)
    progress(len(artifact.blobs), len(artifact.blobs), "done")
    return Pushed(artifact.digest, uploaded, len(artifact.blobs) - uploaded, sent)


def pull(
    place: Place, parent: Path, trust: Choice, digest: str = "", progress: Progress = no_progress
) -> Bundle:
    """Write a bundle and its signatures into `parent`, whole or not at all; one that is there already is kept.

    The bundle's manifest and signatures are fetched and checked first, so that nothing large is fetched of a bundle
    that nobody who is trusted signed.

    Args:
        place: from where.
        parent: folder to write into.
        trust: whose signatures count, or `UNSIGNED`.
        digest: that the manifest must have; empty for any.
        progress: called with bytes.

    Raises:
        BundleRefused: what comes is not what was named, no bundle, or not signed by who must sign it.
        InTheWay: something else lies where the bundle is to be written.
        ExportError: the place cannot be reached, or there is no room.
    """
    data = place.manifest()
    if len(data) > MOST_MANIFEST or (digest and digest_of(data) != digest):
        raise BundleRefused("the registry's manifest is not the one that was asked for: its digest differs")
    contents = contents_of(data)
    manifest = parse_manifest(_fetched(place, contents.files[NAME]))
    signatures = {name: _fetched(place, blob) for name, blob in contents.signatures.items()}
    if not isinstance(trust, Unsigned):
        check_signatures(manifest, signatures, trust)
    check_contents(contents, manifest)
    folder = parent / contents.folder
    parent.mkdir(parents=True, exist_ok=True)
    if not _there(folder, manifest.release):
        _room(parent, contents)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
        try:
            _fetch_all(place, contents, draft / folder.name, progress)
            open_bundle(draft / folder.name, UNSIGNED)
            os.rename(draft / folder.name, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    for name, signature in signatures.items():
        if not (parent / name).exists():
            write_bytes(parent / name, signature)
    return open_bundle(folder, trust)


def _there(folder: Path, release: str) -> bool:
    if not os.path.lexists(folder):
        return False
    fix = "move it, or pull into another folder"
    try:
        if open_bundle(folder, UNSIGNED).manifest.release == release:
            return True
    except (BundleRefused, OSError) as error:
        what = error.what if isinstance(error, BundleRefused) else str(error)
        raise InTheWay(f"{folder} is in the way: {what}", fix) from error
    raise InTheWay(f"{folder} is another bundle", fix)


def _room(parent: Path, contents: Contents) -> None:
    free = shutil.disk_usage(parent).free
    if contents.size > free:
        raise ExportError(
            f"the bundle has {contents.size:,} bytes, {parent} has room for {free:,}",
            "make room, or pull elsewhere",
        )


def _fetch_all(place: Place, contents: Contents, folder: Path, progress: Progress) -> None:
    done = 0
    for name, blob in contents.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for block in _checked(place, blob):
                file.write(block)
                done += len(block)
                progress(done, contents.size, "bytes")
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o644)
    for place_, _, _ in os.walk(folder):
        os.chmod(place_, 0o755)


def _fetched(place: Place, blob: Descriptor) -> bytes:
    return b"".join(_checked(place, blob))


def _checked(place: Place, blob: Descriptor) -> Iterator[bytes]:
    """The bytes of a blob; an error at their end, or as soon as there are too many, if they are not the blob's."""
    digest, size = hashlib.sha256(), 0
    for block in place.blocks(blob):
        size += len(block)
        if size > blob.size:
            break
        digest.update(block)
        yield block
    if size != blob.size:
        how = "more" if size > blob.size else "fewer"
        raise BundleRefused(f"the blob {blob.digest[:19]}… has {how} than its {blob.size:,} bytes")
    if f"sha256:{digest.hexdigest()}" != blob.digest:
        raise BundleRefused(f"the blob {blob.digest[:19]}… has other content than its digest says")
