"""A bundle is what its manifest says, and who must have signed it did; else nothing of it is loaded."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Mapping, Union

from . import folder as disk
from .dsse import MOST_BYTES as MOST_SIGNATURE_BYTES
from .dsse import parse_envelope
from .errors import BundleRefused, shown
from .manifest import MOST_BYTES, NAME, Manifest, names_of, parse_manifest
from .statement import check_statement
from .trust import Trust, require, utc

_MOST_SIGNATURES = 64


@dataclass(frozen=True)
class Unsigned:
    """The choice to take a bundle whoever made it; it has to be spelled out."""


UNSIGNED = Unsigned()
Path = Union[str, "os.PathLike[str]"]
Choice = Union[Trust, Unsigned]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was verified. Files are read again when they are used, and each time their bytes are checked."""

    folder: str
    """Where it lies, without links."""
    manifest: Manifest
    signers: tuple[str, ...] = ()
    """Ids of the keys whose signatures counted."""

    def read(self, name: str) -> bytes:
        """The bytes of a file, which are those that the manifest names.

        Raises:
            BundleRefused: the file is none of the bundle's, or is not what it was when the bundle was made.
        """
        if name == NAME:
            return self.manifest.data
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleRefused("the bundle has no %s" % shown(name))
        data = disk.read_file(self.folder, name, entry.bytes)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _changed(name)
        return data


def verify(folder: Path, trust: Choice, *, seen: str = "") -> Manifest:
    """Check a whole bundle; what comes back is its manifest.

    Args:
        folder: of the bundle; it may be reached through a link, nothing in it may be one.
        trust: whose signatures count, or `UNSIGNED`.
        seen: UTC, the newest `created` that was seen here: expiry is compared with the latest of this, the clock and
            the bundle's own, so that a clock that is wrong revives no key.

    Raises:
        BundleRefused: a file is missing, extra, changed, a link, or too large; the manifest is not canonical; or the
            signatures are not those that `trust` asks for.
        CannotRun: signatures are to be checked, and there is no OpenSSL.
    """
    return open_bundle(folder, trust, seen=seen).manifest


def open_bundle(folder: Path, trust: Choice, *, seen: str = "") -> Bundle:
    """As `verify`; what comes back reads the bundle's files."""
    if not isinstance(trust, (Trust, Unsigned)):
        raise TypeError("no trust was given; to accept an unsigned bundle, pass UNSIGNED")
    place = os.path.realpath(os.fspath(folder))
    listed = disk.listing(place)
    if NAME not in listed:
        raise BundleRefused("%s holds no %s" % (place, NAME), "give the folder of a bundle")
    if listed[NAME] > MOST_BYTES:
        raise BundleRefused("%s has more than %d bytes" % (NAME, MOST_BYTES))
    manifest = parse_manifest(disk.read_file(place, NAME, listed[NAME]))
    signers = (
        () if isinstance(trust, Unsigned) else check_signatures(manifest, signatures_of(place), trust, seen)
    )
    known = set(names_of(manifest.files))
    for name in sorted(set(listed) - known):
        raise BundleRefused("%s is in the bundle, and not in its manifest" % shown(name))
    for name in sorted(known - set(listed)):
        raise BundleRefused("%s is missing in the bundle" % name)
    for name, entry in sorted(manifest.files.items()):
        if listed[name] != entry.bytes:
            raise BundleRefused("%s has %d bytes, %d in the manifest" % (name, listed[name], entry.bytes))
        digest = hashlib.sha256()
        for block in disk.blocks(place, name):
            digest.update(block)
        if digest.hexdigest() != entry.sha256:
            raise _changed(name)
    return Bundle(place, manifest, signers)


def check_signatures(
    manifest: Manifest, signatures: Mapping[str, bytes], trust: Trust, seen: str = ""
) -> tuple[str, ...]:
    """Ids of the keys that signed exactly the files of this manifest; at least as many as `trust` asks for.

    Args:
        manifest: of the bundle.
        signatures: the bytes of its signature files, by name.
        trust: whose count.
        seen: as for `verify`.

    Raises:
        BundleRefused: there are too few, or one that counts is of other files.
        CannotRun: there is no OpenSSL.
    """
    when = max(utc(), manifest.created, seen)
    good = require(signatures, trust, manifest.channel, when)
    for name in good.values():
        check_statement(parse_envelope(signatures[name], name), manifest, name)
    return tuple(sorted(good))


def signature_name(folder: str, keyid: str) -> str:
    """Path of the signature of a key, beside a bundle's folder."""
    return "%s.%s.sig" % (folder, keyid[:8])


def signatures_of(folder: str) -> dict[str, bytes]:
    """The bytes of the signature files beside a bundle's folder, by name.

    Raises:
        BundleRefused: there are too many, or one cannot be read.
    """
    parent, base = os.path.split(folder)
    pattern = re.compile(re.escape(base) + r"\.[0-9a-f]{8}\.sig\Z")
    names = sorted(name for name in os.listdir(parent or ".") if pattern.match(name))
    if len(names) > _MOST_SIGNATURES:
        raise BundleRefused("there are more than %d signatures of %s" % (_MOST_SIGNATURES, base))
    found = {}
    for name in names:
        size = disk.size_of(parent, name)
        if size > MOST_SIGNATURE_BYTES:
            raise BundleRefused("%s has more than %d bytes" % (name, MOST_SIGNATURE_BYTES))
        found[name] = disk.read_file(parent, name, size)
    return found


def _changed(name: str) -> BundleRefused:
    return BundleRefused("%s is not what it was when the bundle was made: its SHA-256 differs" % name)
