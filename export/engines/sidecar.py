"""The JSON file beside an engine: what it is, and whether it may be loaded here.

Nothing is glued onto the engine file itself, so other tools can read it. The file holds nothing that differs
between two builds of the same engine (no times, no absolute paths).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.engines.protocol import EngineInfo
from export.errors import EngineError
from export.files import sha256, write_json

FORMAT = 2
_PASSING = ("build_seconds", "file", "notes")

Rebuild = Callable[[Mapping[str, Any]], str]


def sidecar_path(engine: Path) -> Path:
    """`<engine>.json`."""
    engine = Path(engine)
    return engine.with_name(f"{engine.name}.json")


def write_sidecar(info: EngineInfo, engine: Path) -> None:
    """Write the facts of `info` that are the same for every build of this engine."""
    facts = {key: value for key, value in info.to_dict().items() if key not in _PASSING}
    write_json(sidecar_path(engine), {"format": FORMAT, "name": Path(engine).name, **facts})


def read_sidecar(
    engine: Path, backend: str, rebuild: Rebuild = lambda facts: "build it again"
) -> dict[str, Any]:
    """The sidecar of an engine file, after checking that both belong together and to `backend`.

    Args:
        engine: the engine file.
        backend: name of the back end that wants to load it.
        rebuild: from the sidecar's content (empty where there is none), what to do if the engine cannot be loaded.

    Raises:
        EngineError: either file is absent or unreadable, the engine's content is not what was built, or
            another back end built it.
    """
    engine = Path(engine)
    path = sidecar_path(engine)
    if not engine.is_file():
        raise EngineError(f"there is no engine file {engine}", rebuild({}))
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        raise EngineError(
            f"{engine.name} has no {path.name} beside it, so its origin is unknown", rebuild({})
        ) from None
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}", rebuild({})) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise EngineError(f"{path.name} is of another version of this program", rebuild({}))
    if facts.get("backend") != backend:
        raise EngineError(
            f"{engine.name} was built by {facts.get('backend')}, not by {backend}", rebuild(facts)
        )
    size = engine.stat().st_size
    if size < facts["bytes"]:
        raise EngineError(f"{engine.name} is cut off: {size:,} of {facts['bytes']:,} bytes", rebuild(facts))
    if facts.get("sha256") != sha256(engine):
        raise EngineError(
            f"{engine.name} is not the file that {path.name} describes (its SHA-256 differs)", rebuild(facts)
        )
    return facts
