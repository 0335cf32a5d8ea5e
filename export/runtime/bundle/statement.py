"""What is signed of a bundle: OpenSSF Model Signing v1.0, every file with its SHA-256.

Source: https://github.com/ossf/model-signing-spec (v1.0).
"""

from __future__ import annotations

import hashlib
from typing import Mapping

from . import strict_json
from .dsse import MOST_BYTES, Envelope
from .errors import BundleRefused, shown
from .manifest import NAME, Manifest

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"


def digests_of(manifest: Manifest) -> dict[str, str]:
    """SHA-256 (hex) of every file of a bundle, its manifest among them."""
    return {NAME: manifest.release, **{name: entry.sha256 for name, entry in manifest.files.items()}}


def statement(name: str, digests: Mapping[str, str]) -> bytes:
    """The bytes to sign.

    Args:
        name: of the bundle.
        digests: SHA-256 (hex) by file.
    """
    from json import dumps

    said = {
        "_type": TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(digests)}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": digest} for path, digest in _ordered(digests)
            ],
        },
    }
    return dumps(said, separators=(",", ":"), sort_keys=True).encode("ascii")


def check_statement(envelope: Envelope, manifest: Manifest, name: str) -> None:
    """Refuse an envelope whose content is not about exactly the files of this bundle.

    Args:
        envelope: whose signature was checked.
        manifest: of the bundle.
        name: of the signature's file, for messages.

    Raises:
        BundleRefused: says what differs.
    """
    found = strict_json.read(envelope.payload, "what %s signs" % name, MOST_BYTES)
    try:
        kinds = (envelope.payload_type, found["_type"], found["predicateType"])
        serialization, resources = found["predicate"]["serialization"], found["predicate"]["resources"]
        (subject,) = found["subject"]
        ways = (serialization["method"], serialization["hash_type"])
        root = subject["digest"]["sha256"]
        named = [(each["name"], each["algorithm"], each["digest"]) for each in resources]
    except (KeyError, TypeError, ValueError):
        raise BundleRefused("%s signs no model" % name) from None
    if kinds != ("application/vnd.in-toto+json", TYPE, PREDICATE) or ways != ("files", "sha256"):
        raise BundleRefused("%s signs in a way that is not read here: %s" % (name, shown(kinds + ways)))
    wanted = digests_of(manifest)
    if not all(isinstance(text, str) for entry in named for text in entry):
        raise BundleRefused("%s signs no model" % name)
    signed = {path: digest for path, algorithm, digest in named if algorithm == "sha256"}
    if len(signed) != len(named):
        raise BundleRefused("%s names a file twice, or by another hash than SHA-256" % name)
    for path in sorted(set(signed) ^ set(wanted)):
        how = "which is not in the bundle" if path in signed else "which it does not sign"
        raise BundleRefused("%s is of other files: %s, %s" % (name, shown(path), how))
    for path, digest in sorted(wanted.items()):
        if signed[path] != digest:
            raise BundleRefused("%s signs another %s than the bundle's" % (name, path))
    if root != _root(wanted):
        raise BundleRefused("%s contradicts itself: the root digest is another" % name)


def _root(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in _ordered(digests))).hexdigest()


def _ordered(digests: Mapping[str, str]) -> list[tuple[str, str]]:
    """By the parts of the paths, as the reference implementation sorts."""
    return sorted(digests.items(), key=lambda entry: entry[0].split("/"))
