"""A bundle on the machine where it is used: checked, and run. Python 3.8, standard library and numpy.

A bundle is a folder:

    manifest.json            canonical JSON: what the bundle is, and the SHA-256 and size of every other file
    engine/NAME              the engine, and NAME.json, its sidecar
    labels.json  preprocess.json  golden/  measured.json  card.md  sbom.cdx.json  provenance.json  LICENSES/
    run.pyz                  this code

Its release id is the SHA-256 of manifest.json. Signatures lie beside the folder: FOLDER.KEYID8.sig, one a signer. A tar
file of it holds the folder and, beside it, the signatures.

`verify(folder, trust)` checks all of that and gives the manifest. `open_bundle(folder, trust)` does the same and gives
what reads files: each read checks the very bytes that it returns. `load(folder, trust)` gives a model that classifies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import BundleRefused
from .manifest import Manifest, parse_manifest
from .trust import Trust, parse_trust
from .verify import UNSIGNED, Bundle, Choice, Path, open_bundle, verify

if TYPE_CHECKING:
    from .model import Model


def load(folder: Path, trust: Choice) -> Model:
    """Verify a bundle and load it: `export.runtime.bundle.model.load`, which needs numpy."""
    from .model import load

    return load(folder, trust)


__all__ = [
    "UNSIGNED",
    "Bundle",
    "BundleRefused",
    "Manifest",
    "Trust",
    "load",
    "open_bundle",
    "parse_manifest",
    "parse_trust",
    "verify",
]
