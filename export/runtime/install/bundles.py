"""How an install sees a bundle: verified by `export.runtime.bundle`, with its errors in this package's terms."""

from __future__ import annotations

from export.runtime.bundle import Bundle, BundleRefused, open_bundle
from export.runtime.bundle.verify import Unsigned
from export.runtime.install.errors import Refused
from export.runtime.install.site import Verify
from export.runtime.install.state import Release


def verifier(trust: Unsigned) -> Verify:
    """What checks the bundle in a folder, with the signatures beside it, against a trust.

    Args:
        trust: whose signatures count, or `UNSIGNED`.
    """

    def verify(folder: str) -> Release:
        try:
            return release_of(open_bundle(folder, trust))
        except BundleRefused as error:
            raise Refused(error.what, fix=error.fix) from None

    return verify


def release_of(bundle: Bundle) -> Release:
    """What an install keeps of a bundle that was verified."""
    manifest = bundle.manifest
    return Release(manifest.release, manifest.name, manifest.channel, manifest.sequence)
