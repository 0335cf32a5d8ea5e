"""The JSON file beside an engine: what it is, and whether it may be loaded here.

Nothing is glued onto the engine file itself, so other tools can read it. The file holds nothing that differs
between two builds of the same engine (no times, no absolute paths).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, cast, get_args

from export.contract import is_names
from export.engines.options import HardwareCompatibility
from export.engines.protocol import Composition, EngineInfo, Option
from export.errors import EngineError
from export.runtime.files import parse_json, read_json, sha256, write_json

FORMAT = 3
_WITHOUT_CLASSES = 2
"""The format before, which is read as one that tells neither classes nor the image."""
_PASSING = ("build_seconds", "file", "notes", "remark", "skipped_tactics")
_BYTES = 1 << 24
_MOST = 1024


class FileFacts(TypedDict, total=False):
    """Of a file beside the engine; empty where there is none."""

    file: str
    sha256: str


class TensorFacts(TypedDict):
    """`Tensor` as plain values."""

    name: str
    dtype: str
    shape: list[int | str]


class Sidecar(TypedDict):
    """What `EngineInfo` writes; its fields have the same names."""

    format: int
    name: str
    backend: str
    bytes: int
    sha256: str
    versions: dict[str, str]
    compute_capability: list[str]
    batch_sizes: list[int]
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]
    layers: int
    state: str
    device: str
    platform: str
    l4t: str
    source: FileFacts
    options: dict[str, Option]
    weights: FileFacts
    composition: Composition
    classes: list[str]
    image: dict[str, Any]


Rebuild = Callable[[Sidecar | None], str]
"""What to do if an engine cannot be loaded; of None where it has no sidecar."""


def sidecar_path(engine: Path) -> Path:
    """`<engine>.json`."""
    engine = Path(engine)
    return engine.with_name(f"{engine.name}.json")


def write_sidecar(info: EngineInfo, engine: Path) -> None:
    """Write the facts of `info` that are the same for every build of this engine."""
    facts = {key: value for key, value in info.to_dict().items() if key not in _PASSING}
    write_json(sidecar_path(engine), {"format": FORMAT, "name": Path(engine).name, **facts})


def read_sidecar(engine: Path, backend: str, rebuild: Rebuild = lambda facts: "build it again") -> Sidecar:
    """The sidecar of an engine file, after checking that both belong together and to `backend`.

    Args:
        engine: the engine file.
        backend: name of the back end that wants to load it.
        rebuild: from the sidecar's content, what to do if the engine cannot be loaded.

    Raises:
        EngineError: either file is absent or unreadable, the engine's content is not what was built, or
            another back end built it; or a field of the sidecar is not what it must be.
    """
    engine = Path(engine)
    path = sidecar_path(engine)
    if not engine.is_file():
        raise EngineError(f"there is no engine file {engine}", rebuild(None))
    try:
        facts = read_facts(engine)
    except EngineError as error:
        raise EngineError(error.what, rebuild(None)) from error
    if facts["backend"] != backend:
        raise EngineError(f"{engine.name} was built by {facts['backend']}, not by {backend}", rebuild(facts))
    size = engine.stat().st_size
    if size < facts["bytes"]:
        raise EngineError(f"{engine.name} is cut off: {size:,} of {facts['bytes']:,} bytes", rebuild(facts))
    if facts["sha256"] != sha256(engine):
        raise EngineError(
            f"{engine.name} is not the file that {path.name} describes (its SHA-256 differs)", rebuild(facts)
        )
    return facts


def read_facts(engine: Path) -> Sidecar:
    """The sidecar of an engine file, with every field of its type and within its bounds; the engine is not looked at.

    Raises:
        EngineError: the sidecar is absent, unreadable or of another version, or a field is not what it must be.
    """
    path = sidecar_path(engine)
    try:
        facts = read_json(path, _BYTES)
    except FileNotFoundError:
        raise EngineError(
            f"{Path(engine).name} has no {path.name} beside it, so its origin is unknown", "build it again"
        ) from None
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}", "build it again") from error
    return _checked(facts, str(path))


def parse_facts(data: bytes, name: str) -> Sidecar:
    """The sidecar in these bytes of the file `name`, checked as `read_facts` does.

    Raises:
        EngineError: as `read_facts`.
    """
    try:
        facts = parse_json(data)
    except ValueError as error:
        raise EngineError(f"{name} cannot be read: {error}", "build it again") from error
    return _checked(facts, name)


def _checked(facts: Any, path: str) -> Sidecar:
    if isinstance(facts, dict) and facts.get("format") == _WITHOUT_CLASSES:
        facts = {**facts, "format": FORMAT, "classes": [], "image": {}}
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise EngineError(f"{os.path.basename(path)} is of another version of this program", "build it again")
    wrong = sorted(_FIELDS.keys() ^ facts.keys()) + [
        name for name, fits in _FIELDS.items() if name in facts and not fits(facts[name])
    ]
    if wrong:
        shown = repr(facts[wrong[0]])[:80] if wrong[0] in facts else "missing"
        raise EngineError(f"{path}: {wrong[0][:80]} is {shown}, which no build writes", "build it again")
    return cast("Sidecar", facts)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 4096


def _number(value: Any, least: int = 0, most: int = 1 << 62) -> bool:
    return type(value) is int and least <= value <= most


def _name(value: Any) -> bool:
    """Of a file beside another."""
    return _text(value) and bool(re.fullmatch(r"[^/\\\0]+", value)) and value not in (".", "..")


def _sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def _list(value: Any, each: Callable[[Any], bool], most: int = _MOST) -> bool:
    return isinstance(value, list) and len(value) <= most and all(map(each, value))


def _mapping(value: Any, each: Callable[[Any], bool]) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MOST
        and all(map(_text, value))
        and all(map(each, value.values()))
    )


def _tensor(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "dtype", "shape"}
        and _text(value["name"])
        and _text(value["dtype"])
        and _list(value["shape"], lambda size: _text(size) or _number(size, -1), 64)
    )


def _file(value: Any) -> bool:
    """A file's name and digest, or nothing."""
    return value == {} or (
        isinstance(value, dict)
        and value.keys() == {"file", "sha256"}
        and _name(value["file"])
        and _sha256(value["sha256"])
    )


def _capability(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"SM[0-9]{1,4}", value))


def _option(value: Any) -> bool:
    return value is None or isinstance(value, bool) or _text(value) or _number(value)


def _switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _limit(value: Any) -> bool:
    return value is None or _number(value)


# The options that decide how an engine is loaded or built again (`TensorRTOptions`); absent where a back end has none.
_OPTIONS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("strong_typing", "version_compatible", "strip_weights"), _switch),
    **dict.fromkeys(("optimization_level", "workspace_mb", "tactic_dram_mb"), _limit),
    "hardware_compatibility": lambda value: value in get_args(HardwareCompatibility),
}


def _options(value: Any) -> bool:
    return _mapping(value, _option) and all(
        name not in value or fits(value[name]) for name, fits in _OPTIONS.items()
    )


# The fields of `Sidecar`, in the order in which differences are reported.
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "format": _number,
    "name": _name,
    "backend": _text,
    "bytes": _number,
    "sha256": _sha256,
    "versions": lambda value: _mapping(value, _text),
    "compute_capability": lambda value: _list(value, _capability),
    "batch_sizes": lambda value: _list(value, lambda size: _number(size, 1, 1 << 20)),
    "inputs": lambda value: _list(value, _tensor),
    "outputs": lambda value: _list(value, _tensor),
    "layers": _number,
    "state": _text,
    "device": _text,
    "platform": _text,
    "l4t": _text,
    "source": _file,
    "options": _options,
    "weights": _file,
    "composition": lambda value: isinstance(value, dict),
    "classes": lambda value: isinstance(value, list) and is_names(value),
    "image": lambda value: isinstance(value, dict) and len(value) <= _MOST,
}
