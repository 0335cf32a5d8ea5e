"""A folder of the OCI image layout, which skopeo, ORAS and others read and copy.

Source: https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export.errors import ExportError
from export.publish.folder import InTheWay
from export.publish.modelpack import ARTIFACT, MANIFEST, MOST_MANIFEST, Descriptor, digest_of
from export.publish.reference import DIGEST, LayoutPath
from export.runtime.bundle import strict_json
from export.runtime.bundle.errors import BundleRefused
from export.runtime.files import open_regular, read_bytes, write_bytes

_MARK, _INDEX = "oci-layout", "index.json"
_VERSION = {"imageLayoutVersion": "1.0.0"}
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_REF = "org.opencontainers.image.ref.name"
_BLOCK = 1 << 20


class Layout:
    """An artifact under a tag of an image layout; see `export.publish.transfer.Place`."""

    def __init__(self, path: LayoutPath) -> None:
        self._folder, self._tag = Path(path.folder), path.tag

    def prepare(self) -> None:
        """Make the folder a layout; one that is a layout already keeps all that it holds.

        Raises:
            InTheWay: it holds something else.
        """
        if os.path.lexists(self._folder) and not self._folder.is_dir():
            raise InTheWay(f"{self._folder} is no folder", "name another")
        if self._folder.is_dir() and any(self._folder.iterdir()):
            self._require()
            return
        write_bytes(
            self._folder / _INDEX, _json({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": []})
        )
        write_bytes(self._folder / _MARK, _json(_VERSION))  # last: with it, the folder is a layout

    def manifest(self) -> bytes:
        """The manifest of the tag."""
        self._require()
        for entry in self._entries():
            if entry["annotations"].get(_REF) == self._tag:
                blob = Descriptor(MANIFEST, entry["digest"], entry["size"])
                data = b"".join(self.blocks(blob))
                if digest_of(data) != blob.digest:
                    raise BundleRefused(f"{self._folder}: the manifest of '{self._tag}' has another digest")
                return data
        tags = ", ".join(str(entry["annotations"].get(_REF)) for entry in self._entries()) or "none"
        raise ExportError(f"{self._folder} has no tag '{self._tag}'", f"tags are: {tags}")

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is there, whole by its size."""
        path = self._path(blob)
        return path.is_file() and path.stat().st_size == blob.size

    def put(self, blob: Descriptor, data: bytes) -> None:
        """Write a blob."""
        write_bytes(self._path(blob), data)

    def blocks(self, blob: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob in parts, not checked."""
        try:
            with open_regular(self._path(blob)) as file:
                while block := file.read(_BLOCK):
                    yield block
        except FileNotFoundError:
            raise BundleRefused(f"{self._folder} lacks the blob {blob.digest[:19]}…") from None

    def put_manifest(self, data: bytes) -> None:
        """Write the manifest, and its tag into the index; other tags stay."""
        blob = Descriptor(MANIFEST, digest_of(data), len(data))
        self.put(blob, data)
        others = [entry for entry in self._entries() if entry["annotations"].get(_REF) != self._tag]
        mine = {**blob.to_json(), "artifactType": ARTIFACT, "annotations": {_REF: self._tag}}
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [*others, mine]}
        write_bytes(self._folder / _INDEX, _json(index))

    def _entries(self) -> list[dict[str, Any]]:
        """The manifests that the index lists, as they stand there."""
        where = str(self._folder / _INDEX)
        try:
            found = strict_json.read(read_bytes(self._folder / _INDEX, MOST_MANIFEST), where, MOST_MANIFEST)
            entries: list[dict[str, Any]] = []
            for entry in found["manifests"]:
                entry = {**entry, "annotations": dict(entry.get("annotations") or {})}
                if not DIGEST.match(entry["digest"]) or type(entry["size"]) is not int:
                    raise ValueError(entry["digest"])
                entries.append(entry)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BundleRefused(f"{where} is no index of an image layout") from error
        return entries

    def _require(self) -> None:
        try:
            mark = json.loads(read_bytes(self._folder / _MARK, 1 << 12))
        except (OSError, ValueError):
            mark = None
        if not isinstance(mark, dict) or mark.get("imageLayoutVersion") != _VERSION["imageLayoutVersion"]:
            raise InTheWay(
                f"{self._folder} is no OCI image layout", "name a folder that is one, or that is new"
            )

    def _path(self, blob: Descriptor) -> Path:
        algorithm, _, digest = blob.digest.partition(":")
        return self._folder / "blobs" / algorithm / digest


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8")
