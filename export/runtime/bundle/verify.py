"""A bundle is what its manifest says, and who must have signed it did; else nothing of it is loaded."""

import hashlib
import os
from dataclasses import dataclass
from typing import Union

from . import folder as disk
from .errors import BundleRefused, shown
from .manifest import MOST_BYTES, NAME, Manifest, names_of, parse_manifest


@dataclass(frozen=True)
class Unsigned:
    """The choice to take a bundle whoever made it; it has to be spelled out."""


UNSIGNED = Unsigned()


@dataclass(frozen=True)
class Bundle:
    """A bundle that was verified. Files are read again when they are used, and each time their bytes are checked."""

    folder: str
    """Where it lies, without links."""
    manifest: Manifest

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


def verify(folder: Union[str, "os.PathLike[str]"], trust: Unsigned) -> Manifest:
    """Check a whole bundle; what comes back is its manifest.

    Args:
        folder: of the bundle; it may be reached through a link, nothing in it may be one.
        trust: whose signatures count, or `UNSIGNED`.

    Raises:
        BundleRefused: a file is missing, extra, changed, a link, or too large; the manifest is not canonical; or the
            signatures are not those that `trust` asks for.
    """
    return open_bundle(folder, trust).manifest


def open_bundle(folder: Union[str, "os.PathLike[str]"], trust: Unsigned) -> Bundle:
    """As `verify`; what comes back reads the bundle's files."""
    place = os.path.realpath(os.fspath(folder))
    listed = disk.listing(place)
    if NAME not in listed:
        raise BundleRefused("%s holds no %s" % (place, NAME), "give the folder of a bundle")
    if listed[NAME] > MOST_BYTES:
        raise BundleRefused("%s has more than %d bytes" % (NAME, MOST_BYTES))
    manifest = parse_manifest(disk.read_file(place, NAME, listed[NAME]))
    _check_trust(trust)
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
    return Bundle(place, manifest)


def _check_trust(trust: Unsigned) -> None:
    if not isinstance(trust, Unsigned):
        raise TypeError("no trust was given; that a bundle need not be signed must be said: UNSIGNED")


def _changed(name: str) -> BundleRefused:
    return BundleRefused("%s is not what it was when the bundle was made: its SHA-256 differs" % name)
