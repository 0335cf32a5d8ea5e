"""The JSON file beside an engine: what it is, and whether it may be loaded here.

Nothing is glued onto the engine file itself, so other tools can read it. The file holds nothing that differs
between two builds of the same engine (no times, no absolute paths).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from export.engines.protocol import EngineInfo
from export.errors import EngineError
from export.files import sha256, write_json

FORMAT = 1


def sidecar_path(engine: Path) -> Path:
    """`<engine>.json`."""
    engine = Path(engine)
    return engine.with_name(f"{engine.name}.json")


def write_sidecar(info: EngineInfo, engine: Path) -> None:
    """Write the facts of `info` that are the same for every build of this engine."""
    facts = {key: value for key, value in info.to_dict().items() if key not in ("build_seconds", "file")}
    write_json(sidecar_path(engine), {"format": FORMAT, "name": Path(engine).name, **facts})


def read_sidecar(engine: Path, backend: str, rebuild: str) -> dict[str, Any]:
    """The sidecar of an engine file, after checking that both belong together and to `backend`.

    Args:
        engine: the engine file.
        backend: name of the back end that wants to load it.
        rebuild: what to do if it cannot be loaded, for the message.

    Raises:
        EngineError: either file is absent or unreadable, the engine's content is not what was built, or
            another back end built it.
    """
    engine = Path(engine)
    path = sidecar_path(engine)
    if not engine.is_file():
        raise EngineError(f"there is no engine file {engine}", rebuild)
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        raise EngineError(
            f"{engine.name} has no {path.name} beside it, so its origin is unknown", rebuild
        ) from None
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read: {error}", rebuild) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise EngineError(f"{path.name} has an unknown format", rebuild)
    if facts.get("backend") != backend:
        raise EngineError(f"{engine.name} was built by {facts.get('backend')}, not by {backend}", rebuild)
    if facts.get("sha256") != sha256(engine):
        raise EngineError(
            f"{engine.name} is not the file that {path.name} describes (its SHA-256 differs)", rebuild
        )
    return facts
