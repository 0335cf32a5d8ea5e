"""How an install sees a bundle: verified by `export.runtime.bundle`, with its errors in this package's terms."""

from __future__ import annotations

import os
from typing import Callable, Tuple

from ..bundle import Bundle, BundleRefused, open_bundle
from ..bundle.errors import BundleError
from ..bundle.fit import choose
from ..bundle.manifest import MOST_BYTES, NAME, parse_manifest
from ..bundle.verify import Choice
from .errors import Environment, Refused
from .site import Verify
from .state import Release


def verifier(trust: Choice, seen: Callable[[], str] = str) -> Verify:
    """What checks the bundle in a folder, with the signatures beside it, against a trust.

    Args:
        trust: whose signatures count, or `UNSIGNED`.
        seen: gives the newest time of making that was committed here (UTC), so that a wrong clock revives no key.
    """

    def verify(folder: str) -> Release:
        try:
            return release_of(open_bundle(folder, trust, seen=seen()))
        except BundleRefused as error:
            raise Refused(error.what, fix=error.fix) from None
        except BundleError as error:
            raise Environment(error.what, fix=error.fix) from None

    return verify


def fits(folder: str) -> Tuple[str, ...]:
    """Which engine of the verified bundle in a folder this machine takes, and why not those before it: a line each.

    Nothing for a bundle of one engine.

    Raises:
        Environment: it runs none of them.
    """
    with open(os.path.join(folder, NAME), "rb") as file:
        manifest = parse_manifest(file.read(MOST_BYTES))
    try:
        return choose(manifest).words
    except BundleError as error:
        raise Environment(error.what, fix=error.fix) from None


def release_of(bundle: Bundle) -> Release:
    """What an install keeps of a bundle that was verified."""
    manifest = bundle.manifest
    return Release(
        manifest.release, manifest.name, manifest.channel, manifest.sequence, bundle.signers, manifest.created
    )
