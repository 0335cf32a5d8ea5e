"""Engines that were built on a device, kept for other devices of equal facts: one build for each kind of device.

<folder>/<key>/      the engine, its sidecar, its layers, and kept.json
<folder>/<key>.lock  held while it is built: a second device of the kind waits and takes what the first one made

The key holds everything that decides an engine: the request to the device's builder, and the facts that make an engine
useless elsewhere. Not what the device or the target is called.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError

from export.runtime.files import sha256
from pipeline.core.files import write_text
from pipeline.core.locks import held
from pipeline.core.manifest import sha256_json
from pipeline.results.rows.engines import Made
from pipeline.results.rows.row import Row

_FILE = "kept.json"
_MOST = 64
_PASSING = ("id", "timing_cache")


class Kept(Row):
    """An engine as it was built."""

    made: Made
    seconds: float
    device: str
    """Name of the one that built it."""
    digests: dict[str, str]
    """sha256 by file."""


@dataclass(frozen=True)
class Engines:
    """The engines that are kept.

    Attributes:
        folder: a folder that all runs share; None keeps none.
        since: seconds since the epoch; what was kept before does not count.
    """

    folder: Path | None = None
    since: float = 0.0

    @contextmanager
    def building(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Be the only one who builds an engine."""
        if self.folder is None:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with held(FileLock(self.folder / f"{key}.lock"), on_wait):
            yield

    def take(self, key: str, out: Path) -> Kept | None:
        """Put a kept engine's files into `out`; None where there is none, or it is damaged."""
        if self.folder is None:
            return None
        place = self.folder / key
        try:
            if (place / _FILE).stat().st_mtime < self.since:
                return None
            found = Kept.model_validate_json((place / _FILE).read_bytes())
            for name, digest in found.digests.items():
                if Path(name).name != name or sha256(place / name) != digest:
                    return None
            for name in found.digests:
                _link(place / name, out / name)
        except (OSError, ValidationError):
            return None
        return found

    def keep(self, key: str, made: Made, seconds: float, device: str, files: list[Path]) -> None:
        """Keep an engine that was built; the oldest go."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=self.folder))
        try:
            for path in files:
                _link(path, draft / path.name)
            found = Kept(
                made=made, seconds=seconds, device=device, digests={path.name: sha256(path) for path in files}
            )
            write_text(draft / _FILE, found.model_dump_json())
            shutil.rmtree(self.folder / key, ignore_errors=True)
            os.rename(draft, self.folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        kept = sorted(self.folder.glob(f"*/{_FILE}"), key=_age)
        for old in kept[:-_MOST]:
            shutil.rmtree(old.parent, ignore_errors=True)


NOTHING = Engines()
"""Keeps none."""


def key_of(request: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """What an engine is kept under.

    Args:
        request: to the builder of the device.
        environment: the facts that make an engine useless elsewhere.
    """
    asked = {name: value for name, value in request.items() if name not in _PASSING}
    return sha256_json({"request": asked, "environment": dict(environment)})


def _link(source: Path, target: Path) -> None:
    """The same file once more: an artifact's files are never changed."""
    with suppress(FileNotFoundError):
        target.unlink()
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
