"""A bundle written: every file the same bytes for the same content, the folder whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle.archive import RUNTIME, runtime_archive
from export.bundle.content import ALLOWED_LOGIT, ALLOWED_PIXEL, Content, Packed
from export.bundle.documents import bill_of_materials, card, json_bytes, provenance
from export.errors import ExportError
from export.folders import settle, sync, write_new
from export.runtime.bundle import canonical, golden
from export.runtime.bundle.decode import decoder_facts
from export.runtime.bundle.errors import BundleRefused
from export.runtime.bundle.manifest import FORMATS, NAME, EngineEntry, Manifest, parse_manifest
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
    placed = _placed(content)
    files = _files(content, placed)
    manifest = _manifest(content, [entry for entry, _ in placed], files)
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


def _files(content: Content, placed: list[tuple[EngineEntry, dict[str, bytes]]]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for packed in content.engines:
        for name, path in packed.files.items():
            try:
                found[name] = read_bytes(path, _LARGEST)
            except (OSError, ValueError) as error:
                raise ExportError(
                    f"{path} cannot be put into a bundle: {error}", "build the engine again"
                ) from error
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    found |= {f"golden/images/{name}": data for name, data in content.pictures.items()}
    for entry, answers in placed:
        found |= {entry.place(name): data for name, data in answers.items()}
    found |= {
        golden.INPUTS: golden.npy_bytes(content.inputs.astype(np.uint8)),
        LABELS: canonical.encode(list(content.classes)),
        PREPROCESS: canonical.encode(content.preprocessing.to_json()),
        "measured.json": json_bytes(_measured(content)),
        "card.md": card(content).encode("utf-8"),
        "sbom.cdx.json": json_bytes(bill_of_materials(content, digests)),
        "provenance.json": json_bytes(provenance(content, digests)),
        f"LICENSES/{_LICENCE}.txt": licence_text(),
        RUNTIME: runtime_archive(),
    }
    return found | dict(content.more)


def _answers(content: Content, packed: Packed) -> dict[str, bytes]:
    """What an engine answered, by where a bundle of one engine has it."""
    here = decoder_facts()
    facts = golden.Golden(
        images=tuple(f"golden/images/{name}" for name in content.pictures),
        inputs=content.inputs,
        logits=packed.logits,
        source=packed.source,
        max_abs_logit=_allowed(packed),
        max_abs_pixel=ALLOWED_PIXEL,
        pillow=here["pillow"],
        libjpeg=here["libjpeg"],
    )
    return {
        golden.FILE: canonical.encode(golden.golden_json(facts)),
        golden.LOGITS: golden.npy_bytes(packed.logits.astype("<f4")),
        **packed.answers,
    }


def _placed(content: Content) -> list[tuple[EngineEntry, dict[str, bytes]]]:
    """Engines as the manifest has them, with their answers: those that answer alike share a folder of them."""
    known: list[tuple[dict[str, bytes], str]] = []
    placed = []
    for packed in content.engines:
        answers = _answers(content, packed)
        place = next((folder for other, folder in known if other == answers), None)
        if place is None:
            place = f"answers/{packed.entry.name}" if known else ""
            known.append((answers, place))
        placed.append((replace(packed.entry, answers=place), answers))
    return placed


def _measured(content: Content) -> Any:
    if len(content.engines) == 1:
        return _plain(asdict(content.engines[0].measured))
    return {packed.entry.name: _plain(asdict(packed.measured)) for packed in content.engines}


def _manifest(content: Content, entries: list[EngineEntry], files: Mapping[str, bytes]) -> Manifest:
    several = len(entries) > 1 or not content.counts
    said = {
        "format": FORMATS[several],
        "name": content.name,
        "target": content.target,
        "channel": content.channel,
        "sequence": content.sequence,
        "created": content.created,
        "verdict": content.verdict,
        "runtime": RUNTIME_VERSION,
        "licences": sorted({_LICENCE, content.licence}),
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        },
        **(_several(entries, content.counts) if several else _one(entries[0])),
    }
    try:
        return parse_manifest(canonical.encode(said))
    except (BundleRefused, ValueError) as error:
        raise ExportError(f"this would be no bundle: {error}", "choose other names") from error


def _one(entry: EngineEntry) -> dict[str, object]:
    engine = {name: getattr(entry, name) for name in ("file", "backend", "precision", "threads")}
    needs = _needs(entry)
    del needs["cpu_features"]
    return {"engine": engine, "needs": needs}


def _several(entries: list[EngineEntry], counts: bool) -> dict[str, object]:
    engines = [
        {**asdict(entry), "name": entry.name or entry.precision, "needs": _needs(entry)} for entry in entries
    ]
    return {"engines": engines, "counts": int(counts)}


def _needs(entry: EngineEntry) -> dict[str, object]:
    """Lists instead of tuples, which canonical JSON does not know."""
    found = asdict(entry.needs)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


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


def _allowed(packed: Packed) -> float:
    largest = float(np.abs(packed.logits).max(initial=1.0))
    return float(f"{ALLOWED_LOGIT.get(packed.entry.precision, 5e-2) * max(1.0, largest):.3g}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
