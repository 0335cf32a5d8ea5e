"""`artifact.json`, typed: what an artifact was made from, by which run, and what it contains.

A manifest is read from a disk that others write to as well, so nothing of it is used before all of it fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from figkd.files import parse_json
from pipeline.core.files import Json, read_json

MANIFEST = "artifact.json"
KEY_CHARS = 16
"""Characters of the key in a folder's name."""
DIGEST_CHARS = 12
"""Characters of the digest in a folder's name."""
_BYTES = 1 << 26

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _inside(name: str) -> str:
    if not name or "\0" in name or name != PurePosixPath(name).as_posix() or name.startswith("/"):
        raise ValueError("is no name of a file in the artifact")
    if {"..", "."} & set(PurePosixPath(name).parts):
        raise ValueError("leads out of the artifact")
    return name


FileName = Annotated[str, Field(max_length=4096), AfterValidator(_inside)]
"""A file's path relative to its artifact, which it cannot leave."""


class FileFacts(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(strict=True, frozen=True)

    bytes: int = Field(ge=0)
    sha256: Sha256
    volatile: bool = False
    """Kept and verified, but does not count for the digest."""


class MadeFrom(BaseModel):
    """The recipe of an artifact, as `pipeline.core.store.Recipe`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    step: str
    version: int
    arguments: Json
    inputs: dict[str, str]
    environment: Json


class Manifest(BaseModel):
    """What `artifact.json` says."""

    model_config = ConfigDict(strict=True, frozen=True)

    step: str
    key: Sha256
    digest: Sha256
    created: str
    """UTC, by this machine's clock; for people."""
    sequence: int = Field(default=0, ge=0)
    """Grows with each artifact of a key, whatever the clock says; 0 in stores that did not count."""
    recipe: MadeFrom
    files: dict[FileName, FileFacts]
    provenance: Json

    def contradiction(self) -> bool:
        """Whether key or digest are not those of the recipe and the files."""
        return self.digest != content_digest(self.files) or self.key != sha256_json(self.recipe.model_dump())

    def to_json(self) -> str:
        """The text of `artifact.json`: the same for the same manifest."""
        values = self.model_dump()
        for facts in values["files"].values():
            if not facts["volatile"]:
                del facts["volatile"]
        return json.dumps(values, indent=1, sort_keys=True)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an artifact's folder; None if it is absent, damaged, or that of another artifact."""
    try:
        found = Manifest.model_validate(read_json(folder / MANIFEST, _BYTES))
    except (OSError, ValueError):  # among them pydantic's ValidationError
        return None
    name = f"{found.key[:KEY_CHARS]}.{found.digest[:DIGEST_CHARS]}"
    return found if (found.step, name) == (folder.parent.name, folder.name) else None


def parse_manifest(content: bytes) -> Manifest:
    """The manifest that a file of another machine holds.

    Raises:
        ValueError: it is none.
    """
    return Manifest.model_validate(parse_json(content))


def content_digest(files: Mapping[str, FileFacts]) -> str:
    """sha256 (hex) over the names and contents of the files that are not volatile."""
    return sha256_json({name: facts.sha256 for name, facts in files.items() if not facts.volatile})


def sha256_json(value: Any) -> str:
    """sha256 (hex) of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
