"""What an export needs of a bundle, read from bytes that were checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.engine_kinds import ENGINE_KINDS, EngineKind
from export.engines.sidecar import TensorFacts, parse_facts
from export.errors import ExportError
from export.publish.folder import Content
from export.runtime.bundle import strict_json
from export.runtime.bundle.golden import Golden, read_golden
from export.runtime.bundle.model import read_labels, read_preprocessing
from export.runtime.bundle.preprocess import Preprocessing
from export.runtime.bundle.verify import Bundle, Choice, open_bundle

if TYPE_CHECKING:
    from export.runtime.bundle.manifest import EngineEntry, Manifest

_MOST_DOCUMENT = 1 << 24
NO_LICENCE = "NOASSERTION"


class CannotExport(ExportError):
    """A bundle that the destination cannot take."""


@dataclass(frozen=True)
class Port:
    """An input or output of an engine."""

    name: str
    dtype: str
    """`uint8`, `float32` or `float16`."""
    shape: tuple[int, ...]
    """With the batch, which is -1 where it is open."""

    @property
    def open_batch(self) -> bool:
        """More than one batch size is taken."""
        return self.shape[0] < 0


@dataclass(frozen=True)
class Source:
    """A bundle that was verified, with what it says of one of its engines."""

    bundle: Bundle
    entry: EngineEntry
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    golden: Golden
    input: Port
    output: Port
    batch_sizes: tuple[int, ...]
    """That are taken; empty for any."""
    versions: dict[str, str]
    """Package to version, of what built the engine."""
    compute_capability: tuple[str, ...]
    stripped: bool
    """Its weights lie in another file."""
    version_compatible: bool
    licence: str
    """SPDX expression of the model; `NOASSERTION` where none was given."""
    lineage: str
    """Digest of the student's training; empty if unknown."""

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self.bundle.manifest

    @property
    def kind(self) -> EngineKind:
        """Of the engine."""
        return ENGINE_KINDS[self.entry.backend]

    @property
    def engine(self) -> Content:
        """The engine's bytes, read and checked when they are asked for."""
        return partial(self.bundle.read, self.entry.file)


def open_source(folder: Path, trust: Choice, engine: str = "") -> Source:
    """Verify a bundle and read what an export needs of it.

    Args:
        folder: of the bundle.
        trust: as for `export.runtime.bundle.verify`.
        engine: name of one; empty: the first.

    Raises:
        BundleRefused: it is not what it says, or not signed by who must sign it.
        CannotExport: it has no such engine; or the engine has not one image as its input and logits as its output.
    """
    bundle = open_bundle(folder, trust)
    entry = _entry(bundle, engine)
    name = entry.file
    facts = parse_facts(bundle.read(f"{name}.json"), f"{name}.json")
    if len(facts["inputs"]) != 1 or len(facts["outputs"]) != 1:
        raise CannotExport(f"{name} has {len(facts['inputs'])} inputs and {len(facts['outputs'])} outputs")
    options = facts["options"]
    return Source(
        bundle=bundle,
        entry=entry,
        classes=read_labels(bundle),
        preprocessing=read_preprocessing(bundle),
        golden=read_golden(bundle, entry),
        input=_port(facts["inputs"][0]),
        output=_port(facts["outputs"][0]),
        batch_sizes=tuple(facts["batch_sizes"]),
        versions=dict(facts["versions"]),
        compute_capability=tuple(facts["compute_capability"]),
        stripped=bool(facts["weights"]),
        version_compatible=bool(options.get("version_compatible")),
        licence=_licence(bundle),
        lineage=_lineage(bundle),
    )


def _entry(bundle: Bundle, name: str) -> EngineEntry:
    engines = bundle.manifest.engines
    for entry in engines:
        if not name or entry.name == name:
            return entry
    names = ", ".join(entry.name for entry in engines if entry.name)
    raise CannotExport(
        f"the bundle has no engine '{name}'",
        f"name one of {names}" if names else "it has one engine: leave --engine out",
    )


def _port(found: TensorFacts) -> Port:
    batch, *rest = found["shape"] or ["?"]
    sizes = [size for size in rest if isinstance(size, int) and size > 0]
    if not rest or len(sizes) != len(rest):
        raise CannotExport(f"{found['name']} has the shape {found['shape']}: only the batch may be open")
    return Port(
        found["name"], found["dtype"], (batch if isinstance(batch, int) and batch > 0 else -1, *sizes)
    )


def _document(bundle: Bundle, name: str) -> Any:
    if name not in bundle.manifest.files:
        return {}
    return strict_json.read(bundle.read(name), name, _MOST_DOCUMENT)


def _licence(bundle: Bundle) -> str:
    try:
        (entry,) = _document(bundle, "sbom.cdx.json")["metadata"]["component"]["licenses"]
        found = entry["license"]["name"]
    except (KeyError, TypeError, ValueError):
        return NO_LICENCE
    return found if isinstance(found, str) and found in bundle.manifest.licences else NO_LICENCE


def _lineage(bundle: Bundle) -> str:
    try:
        steps = _document(bundle, "provenance.json")["predicate"]["buildDefinition"]["internalParameters"][
            "steps"
        ]
        return next((str(step["digest"]) for step in steps if step["step"] == "distill"), "")
    except (KeyError, TypeError):
        return ""
