"""A bundle as an OCI artifact in CNCF's ModelPack format: a layer a file, uncompressed; equal files are one blob.

Source: https://github.com/modelpack/model-spec (media types, annotations, configuration).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.publish.reference import DIGEST
from export.publish.source import NO_LICENCE, Source
from export.runtime.bundle import strict_json
from export.runtime.bundle.dsse import MOST_BYTES as MOST_SIGNATURE
from export.runtime.bundle.errors import BundleRefused, shown
from export.runtime.bundle.manifest import MOST_BYTES, MOST_FILES, NAME, Manifest
from export.runtime.bundle.model import LABELS, PREPROCESS
from export.runtime.bundle.names import fault_of_name, fault_of_names
from export.runtime.bundle.verify import signatures_of

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
FILEPATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
"""Where ORAS looks for a file's name."""
MOST_MANIFEST = 1 << 22
"""Bytes, as registries take them."""
_KIND = "application/vnd.cncf.model.{}.v1.raw"
_MOST_LAYERS = MOST_FILES + 65
_LARGEST = 1 << 40
_SIGNATURE = re.compile(r"(?P<folder>.+)\.[0-9a-f]{8}\.sig\Z")


@dataclass(frozen=True)
class Descriptor:
    """A blob: what it is, and the digest and size that its bytes must have."""

    media_type: str
    digest: str
    """`sha256:...`."""
    size: int

    def to_json(self) -> dict[str, Any]:
        """As manifests hold it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Artifact:
    """A bundle as an artifact."""

    manifest: bytes
    blobs: Mapping[Descriptor, bytes | str]
    """Bytes, or the name of a file in the bundle."""

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return digest_of(self.manifest)


@dataclass(frozen=True)
class Contents:
    """What a manifest says of a bundle that was pushed."""

    folder: str
    """Name of the bundle's folder."""
    files: Mapping[str, Descriptor]
    """By path in the bundle."""
    signatures: Mapping[str, Descriptor]
    """By name."""

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(each.size for each in (*self.files.values(), *self.signatures.values()))


def digest_of(data: bytes) -> str:
    """Digest of bytes, as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def describe(media_type: str, data: bytes) -> Descriptor:
    """The descriptor of bytes."""
    return Descriptor(media_type, digest_of(data), len(data))


def artifact_of(source: Source) -> Artifact:
    """The artifact of a bundle and of the signatures beside it; the same for the same bundle."""
    manifest = source.manifest
    folder = Path(source.bundle.folder).name
    blobs: dict[Descriptor, bytes | str] = {}
    layers: list[dict[str, Any]] = []

    def layer(descriptor: Descriptor, path: str, content: bytes | str) -> None:
        blobs[descriptor] = content
        layers.append({**descriptor.to_json(), "annotations": {FILEPATH: path, TITLE: path}})

    layer(describe(_KIND.format("weight.config"), manifest.data), f"{folder}/{NAME}", manifest.data)
    for name, entry in sorted(manifest.files.items()):
        kind = _KIND.format(_kind_of(name, manifest))
        layer(Descriptor(kind, f"sha256:{entry.sha256}", entry.bytes), f"{folder}/{name}", name)
    for name, data in sorted(signatures_of(source.bundle.folder).items()):
        layer(describe(_KIND.format("doc"), data), name, data)
    config = _bytes(_config(source, [each["digest"] for each in layers]))
    described = describe(CONFIG, config)
    blobs[described] = config
    said = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": described.to_json(),
        "layers": layers,
        "annotations": {
            "org.opencontainers.image.created": manifest.created,
            "org.opencontainers.image.title": folder,
            "org.opencontainers.image.version": str(manifest.sequence),
            **({} if source.licence == NO_LICENCE else {"org.opencontainers.image.licenses": source.licence}),
        },
    }
    return Artifact(_bytes(said), blobs)


def contents_of(data: bytes) -> Contents:
    """What the bytes of a manifest say of a bundle, strictly: nothing else may be in it.

    Raises:
        BundleRefused: it is no bundle that `artifact_of` describes.
    """
    found = strict_json.read(data, "the registry's manifest", MOST_MANIFEST)
    try:
        kinds = (found["schemaVersion"], found.get("mediaType", MANIFEST), found["artifactType"])
        layers = [(_descriptor(each), each["annotations"][FILEPATH]) for each in found["layers"]]
    except (KeyError, TypeError, AttributeError):
        raise BundleRefused("the registry holds no model there, but something else") from None
    if kinds != (2, MANIFEST, ARTIFACT):
        raise BundleRefused(f"the registry holds no model there, but {shown(kinds[2])}")
    if len(layers) > _MOST_LAYERS:
        raise BundleRefused(f"the model has more than {MOST_FILES} files")
    return _sorted_out(layers)


def check_contents(contents: Contents, manifest: Manifest) -> None:
    """Refuse layers that are not exactly the files of the bundle's own manifest.

    Raises:
        BundleRefused: says which.
    """
    wanted = {name: (f"sha256:{entry.sha256}", entry.bytes) for name, entry in manifest.files.items()}
    given = {name: (each.digest, each.size) for name, each in contents.files.items() if name != NAME}
    for name in sorted(wanted.keys() ^ given.keys()):
        how = "is missing in the registry" if name in wanted else "is in the registry, and not in the bundle"
        raise BundleRefused(f"{name} {how}")
    for name, entry in wanted.items():
        if given[name] != entry:
            raise BundleRefused(f"the registry's {name} is not the bundle's")


def _sorted_out(layers: Sequence[tuple[Descriptor, str]]) -> Contents:
    files: dict[str, Descriptor] = {}
    signatures: dict[str, Descriptor] = {}
    folders = set()
    for descriptor, path in layers:
        folder, slash, name = path.partition("/") if isinstance(path, str) else ("", "", "")
        signed = None if slash else _SIGNATURE.match(folder)
        if fault_of_name(folder) or (slash and fault_of_name(name)) or not (slash or signed):
            raise BundleRefused(f"the registry names a file {shown(path)}, which is no file of a bundle")
        folders.add(signed["folder"] if signed else folder)
        place, key = (files, name) if slash else (signatures, folder)
        if key in place:
            raise BundleRefused(f"the registry names {shown(path)} twice")
        place[key] = descriptor
    if len(folders) != 1:
        raise BundleRefused(f"the registry holds {len(folders)} bundles under one name")
    if fault := fault_of_names(files):
        raise BundleRefused(f"in the registry {fault}")
    (folder,) = folders
    if NAME not in files or files[NAME].size > MOST_BYTES:
        raise BundleRefused(f"the registry's bundle has no {NAME}")
    if any(each.size > MOST_SIGNATURE for each in signatures.values()) or len(signatures) > 64:
        raise BundleRefused("the registry's signatures are too many or too large")
    return Contents(folder, files, signatures)


def _descriptor(found: Any) -> Descriptor:
    made = Descriptor(found["mediaType"], found["digest"], found["size"])
    fits = (
        isinstance(made.media_type, str)
        and isinstance(made.digest, str)
        and DIGEST.match(made.digest)
        and type(made.size) is int
        and 0 <= made.size <= _LARGEST
    )
    if not fits:
        raise BundleRefused(f"the registry's manifest describes a file as {shown(found)}")
    return made


def _kind_of(name: str, manifest: Manifest) -> str:
    engines = [entry.file for entry in manifest.engines]
    if name in engines or name.endswith(".weights.onnx"):
        return "weight"
    if name.startswith("golden/"):
        return "dataset"
    if name.endswith(".pyz"):
        return "code"
    settings = (*(f"{file}.json" for file in engines), LABELS, PREPROCESS)
    return "weight.config" if name in settings else "doc"


def _config(source: Source, digests: Sequence[str]) -> dict[str, Any]:
    manifest = source.manifest
    engine = source.entry
    licences = [] if source.licence == NO_LICENCE else [source.licence]
    return {
        "descriptor": {
            "createdAt": manifest.created,
            "name": manifest.name,
            "title": f"{manifest.name} for {manifest.target}",
            "version": str(manifest.sequence),
            "revision": manifest.release,
            "licenses": licences,
        },
        "config": {
            "format": "onnx" if source.kind.onnx else source.kind.name,
            "precision": engine.precision,
            "capabilities": {"inputTypes": ["image"], "outputTypes": ["other"]},
        },
        "modelfs": {"type": "layers", "diffIds": list(digests)},
    }


def _bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
