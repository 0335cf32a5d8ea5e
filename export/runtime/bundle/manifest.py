"""`manifest.json`: what a bundle is and what lies in it. Read with strict bounds; its digest is the release id.

Format 1 has one engine (`engine`, `needs`). Format 2 has a list (`engines`, each with its needs), and `counts`. Both
are read; format 2 is written only where format 1 cannot say it, so that earlier runtimes take what they can.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Tuple

from . import canonical
from .errors import BundleRefused, shown
from .names import fault_of_name, fault_of_names

NAME = "manifest.json"
FORMATS = (1, 2)
MOST_ENGINES = 32
MOST_BYTES = 1 << 20
MOST_FILES = 4096
_AGAIN = "take a version of this program that reads it, or make the bundle again"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_CAPABILITY = re.compile(r"SM[0-9]{1,4}\Z")


@dataclass(frozen=True)
class FileEntry:
    """A file as it was when the bundle was made."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Needs:
    """The machine that an engine runs on; empty where any does."""

    architecture: str = ""
    """As `platform.machine()` says."""
    compute_capability: Tuple[str, ...] = ()
    """Of the GPU, such as `SM87`; any of these."""
    l4t: str = ""
    """Release of NVIDIA's board support package."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package to the very version."""
    cpu_features: Tuple[str, ...] = ()
    """As `/proc/cpuinfo` lists them; any of these. Format 1 does not know them."""


@dataclass(frozen=True)
class EngineEntry:
    """An engine: its file, whose it is, how it is run, and where."""

    file: str
    backend: str
    """`onnxruntime`, `tensorrt` or `tensorrt_rtx`."""
    precision: str
    threads: int
    """CPU threads with which it was measured; 0: all that the process may use."""
    needs: Needs = field(default_factory=Needs)
    name: str = ""
    """In messages and commands, each once; format 1 has none."""
    answers: str = ""
    """Folder of what it answered to golden and labelled images; empty: where format 1 has it."""

    def place(self, usual: str) -> str:
        """Where a file with its answers lies, by where format 1 has it."""
        return "%s/%s" % (self.answers, usual.rpartition("/")[2]) if self.answers else usual


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says."""

    name: str
    """The config's."""
    target: str
    channel: str
    """Whose releases replace each other, such as `stable`."""
    sequence: int
    """Grows with each release of a channel."""
    created: str
    """UTC, of the newest thing that it was made from."""
    verdict: str
    """`ship`, or why the run's verdict was not to ship this engine."""
    runtime: int
    """Version of the layout that the runtime must read."""
    engines: Tuple[EngineEntry, ...]
    """At least one; a device takes the first that fits it."""
    counts: bool
    """Whether a device counts answers by class and confidence."""
    licences: Tuple[str, ...]
    """SPDX expressions."""
    files: Mapping[str, FileEntry]
    """Every file but this one, by its path."""
    data: bytes
    """The bytes of the file."""

    @property
    def release(self) -> str:
        """The release id: SHA-256 (hex) of the manifest's bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return len(self.data) + sum(entry.bytes for entry in self.files.values())


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in these bytes.

    Raises:
        BundleRefused: they are not canonical, or a field is absent, unknown or not what it must be.
    """
    if len(data) > MOST_BYTES:
        raise BundleRefused("%s has more than %d bytes" % (NAME, MOST_BYTES))
    found = canonical.decode(data, NAME)
    if not isinstance(found, dict) or found.get("format") not in FORMATS:
        raise BundleRefused("%s is of another version of the format" % NAME, _AGAIN)
    _object(found, {**_TOP, **(_ONE if found["format"] == 1 else _SEVERAL)}, "")
    files = {}
    for name, entry in found["files"].items():
        if fault := fault_of_name(name):
            raise BundleRefused("%s names %s, which %s" % (NAME, shown(name), fault))
        entry = _object(entry, _FILE, "files.%s." % name)
        files[name] = FileEntry(entry["sha256"], entry["bytes"])
    if fault := fault_of_names([*files, NAME]):
        raise BundleRefused("%s: %s" % (NAME, fault))
    engines = _engines(found)
    for engine in engines:
        for name in (engine.file, engine.file + ".json"):
            if name not in files:
                raise BundleRefused("%s lists no %s" % (NAME, name))
    return Manifest(
        name=found["name"],
        target=found["target"],
        channel=found["channel"],
        sequence=found["sequence"],
        created=found["created"],
        verdict=found["verdict"],
        runtime=found["runtime"],
        engines=engines,
        counts=bool(found.get("counts", 1)),
        licences=tuple(found["licences"]),
        files=files,
        data=data,
    )


def _engines(found: Dict[str, Any]) -> Tuple[EngineEntry, ...]:
    if found["format"] == 1:
        return (_engine({**_object(found["engine"], _ENGINE, "engine."), "needs": found["needs"]}, _NEEDS),)
    read = []
    for number, value in enumerate(found["engines"]):
        where = "engines.%d." % number
        read.append(_engine(_object(value, {**_ENGINE, **_NAMED}, where), {**_NEEDS, **_CPU}, where))
    for what in ("name", "file"):
        values = [getattr(engine, what) for engine in read]
        if len(set(values)) != len(values):
            raise BundleRefused("%s: two engines have the same %s" % (NAME, what))
    return tuple(read)


def _engine(
    value: Dict[str, Any], fields: Mapping[str, Callable[[Any], bool]], where: str = ""
) -> EngineEntry:
    needs = _object(value["needs"], fields, where + "needs.")
    return EngineEntry(
        value["file"],
        value["backend"],
        value["precision"],
        value["threads"],
        Needs(
            needs["architecture"],
            tuple(needs["compute_capability"]),
            needs["l4t"],
            needs["versions"],
            tuple(needs.get("cpu_features", ())),
        ),
        value.get("name", ""),
        value.get("answers", ""),
    )


def _object(value: Any, fields: Mapping[str, Callable[[Any], bool]], where: str) -> Dict[str, Any]:
    """A value that is an object of exactly these fields, each of which fits."""
    if not isinstance(value, dict):
        raise BundleRefused("%s: %s is no object" % (NAME, where.rstrip(".")))
    wrong = sorted(set(fields) ^ set(value)) + [
        name for name, fits in fields.items() if name in value and not fits(value[name])
    ]
    if wrong:
        said = shown(value[wrong[0]]) if wrong[0] in value else "missing"
        name = wrong[0] if wrong[0] in fields else shown(wrong[0])
        raise BundleRefused("%s: %s%s is %s" % (NAME, where, name, said))
    return value


def _word(value: Any) -> bool:
    return isinstance(value, str) and bool(_WORD.match(value))


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 200 and value.isprintable()


def _count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _list(each: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and len(value) <= 100 and all(map(each, value))

    return fits


def _mapping(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 100
        and all(map(_word, value))
        and all(map(_text, value.values()))
    )


_BACKENDS = ("onnxruntime", "tensorrt", "tensorrt_rtx")  # type: Tuple[str, ...]
_TOP = {
    "format": lambda value: value in FORMATS,
    "name": _word,
    "target": _word,
    "channel": _word,
    "sequence": _count,
    "created": lambda value: isinstance(value, str) and bool(_TIME.match(value)),
    "verdict": _text,
    "runtime": _count,
    "licences": _list(_text),
    "files": lambda value: isinstance(value, dict) and len(value) <= MOST_FILES,
}  # type: Dict[str, Callable[[Any], bool]]
_ONE = {
    "engine": lambda value: True,
    "needs": lambda value: True,
}  # type: Dict[str, Callable[[Any], bool]]
_SEVERAL = {
    "engines": lambda value: isinstance(value, list) and 1 <= len(value) <= MOST_ENGINES,
    "counts": lambda value: value in (0, 1),
}  # type: Dict[str, Callable[[Any], bool]]
_ENGINE = {
    "file": lambda value: isinstance(value, str) and not fault_of_name(value),
    "backend": lambda value: value in _BACKENDS,
    "precision": _word,
    "threads": lambda value: _count(value) and value <= 4096,
}  # type: Dict[str, Callable[[Any], bool]]
_NEEDS = {
    "architecture": lambda value: value == "" or _word(value),
    "compute_capability": _list(lambda value: isinstance(value, str) and bool(_CAPABILITY.match(value))),
    "l4t": _text,
    "versions": _mapping,
}  # type: Dict[str, Callable[[Any], bool]]
_NAMED = {
    "name": _word,
    "answers": lambda value: isinstance(value, str) and (value == "" or not fault_of_name(value)),
    "needs": lambda value: True,
}  # type: Dict[str, Callable[[Any], bool]]
_CPU = {"cpu_features": _list(_word)}  # type: Dict[str, Callable[[Any], bool]]
_FILE = {
    "sha256": lambda value: isinstance(value, str) and bool(_SHA256.match(value)),
    "bytes": _count,
}  # type: Dict[str, Callable[[Any], bool]]


def names_of(files: Mapping[str, FileEntry]) -> List[str]:
    """All names of a bundle with these files, sorted."""
    return sorted([*files, NAME])
