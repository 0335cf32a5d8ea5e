"""A bundle written: every file the same bytes for the same content, the folder whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle.archive import RUNTIME, runtime_archive
from export.bundle.content import ALLOWED_LOGIT, ALLOWED_PIXEL, Content
from export.bundle.documents import bill_of_materials, card, json_bytes, provenance
from export.errors import ExportError
from export.folders import settle, sync, write_new
from export.runtime.bundle import canonical, golden
from export.runtime.bundle.decode import decoder_facts
from export.runtime.bundle.errors import BundleRefused
from export.runtime.bundle.manifest import FORMAT, NAME, Manifest, parse_manifest
from export.runtime.bundle.model import LABELS, PREPROCESS
from export.runtime.bundle.verify import UNSIGNED, verify
from export.runtime.files import read_bytes

RUNTIME_VERSION = 1
"""Of the layout of a bundle's files; raised where an older runtime would read them wrongly."""
ID_CHARS = 12
"""Characters of the release id in a folder's name."""
_LARGEST = 1 << 31
_LICENCE = "Apache-2.0"


def write_bundle(content: Content, parent: Path) -> tuple[Path, Manifest]:
    """Write `<name>-<target>-<id>` into `parent`.

    A bundle of that name that is whole is left as it is: its name says its content.

    Raises:
        ExportError: a file of the engine is missing; what would be written is no bundle; or something else lies there.
    """
    files = _files(content)
    manifest = _manifest(content, files)
    folder = Path(parent) / f"{content.name}-{content.target}-{manifest.release[:ID_CHARS]}"
    if os.path.lexists(folder):
        try:
            if verify(folder, UNSIGNED).release == manifest.release:
                return folder, manifest
        except BundleRefused as error:
            raise ExportError(f"{folder} is in the way: {error.what}", "move it away") from error
        raise ExportError(f"{folder} is in the way", "move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in {**files, NAME: manifest.data}.items():
            write_new(draft / name, data)
        settle(draft)
        os.rename(draft, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder, manifest


def _files(content: Content) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, path in content.files.items():
        try:
            found[name] = read_bytes(path, _LARGEST)
        except (OSError, ValueError) as error:
            raise ExportError(
                f"{path} cannot be put into a bundle: {error}", "build the engine again"
            ) from error
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    here = decoder_facts()
    facts = golden.Golden(
        images=tuple(f"golden/images/{name}" for name in content.pictures),
        inputs=content.inputs,
        logits=content.logits,
        source=content.source,
        max_abs_logit=_allowed(content),
        max_abs_pixel=ALLOWED_PIXEL,
        pillow=here["pillow"],
        libjpeg=here["libjpeg"],
    )
    found |= {f"golden/images/{name}": data for name, data in content.pictures.items()}
    found |= {
        golden.FILE: canonical.encode(golden.golden_json(facts)),
        golden.INPUTS: golden.npy_bytes(content.inputs.astype(np.uint8)),
        golden.LOGITS: golden.npy_bytes(content.logits.astype("<f4")),
        LABELS: canonical.encode(list(content.classes)),
        PREPROCESS: canonical.encode(content.preprocessing.to_json()),
        "measured.json": json_bytes(_plain(asdict(content.measured))),
        "card.md": card(content).encode("utf-8"),
        "sbom.cdx.json": json_bytes(bill_of_materials(content, digests)),
        "provenance.json": json_bytes(provenance(content, digests)),
        f"LICENSES/{_LICENCE}.txt": licence_text(),
        RUNTIME: runtime_archive(),
    }
    return found | dict(content.more)


def _manifest(content: Content, files: Mapping[str, bytes]) -> Manifest:
    needs = content.needs
    said = {
        "format": FORMAT,
        "name": content.name,
        "target": content.target,
        "channel": content.channel,
        "sequence": content.sequence,
        "created": content.created,
        "verdict": content.verdict,
        "runtime": RUNTIME_VERSION,
        "engine": asdict(content.engine),
        "needs": {
            "architecture": needs.architecture,
            "compute_capability": list(needs.compute_capability),
            "l4t": needs.l4t,
            "versions": dict(needs.versions),
        },
        "licences": sorted({_LICENCE, content.licence}),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        },
    }
    try:
        return parse_manifest(canonical.encode(said))
    except (BundleRefused, ValueError) as error:
        raise ExportError(f"this would be no bundle: {error}", "choose other names") from error


def licence_text() -> bytes:
    """The licence of the code in `run.pyz`."""
    from importlib import metadata

    beside = Path(__file__).parents[2] / "LICENSE"
    if beside.is_file():
        return beside.read_bytes()
    for path in metadata.files("figkd-pipeline") or ():
        if path.name == "LICENSE":
            return path.read_binary()
    return b"Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0.txt\n"


def _allowed(content: Content) -> float:
    largest = float(np.abs(content.logits).max(initial=1.0))
    return float(f"{ALLOWED_LOGIT.get(content.engine.precision, 5e-2) * max(1.0, largest):.3g}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
