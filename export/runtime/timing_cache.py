"""The timing cache: what the builder measured of kernels, kept for the next build.

Beside it lies a JSON file with its digest and what it belongs to: what was cut off or altered, or belongs elsewhere, is
not given to the library but replaced by what this build measures.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Mapping

from .files import open_regular, read_json, write_bytes, write_json

_FORMAT = 1


class TimingCache:
    """The timing cache of one build: attached to the builder's config before, saved after.

    Attributes:
        reused: whether measurements of an earlier build were there.
        note: one line for logs.
    """

    def __init__(self, config: Any, path: str | os.PathLike[str], facts: Mapping[str, str]) -> None:
        """Attach what there is in a file to `config`, or an empty cache.

        Args:
            config: the builder's.
            path: of the cache.
            facts: what it belongs to; one of another device or version is not used.
        """
        self._config, self._facts = config, dict(facts)
        self.path = Path(path)
        data, problem = self._read()
        self._seen = data
        cache = _create(config, data)
        if cache is None or not config.set_timing_cache(cache, False):
            problem = problem or "the library refuses it: it is of another device or version"
            data = b""
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        self.reused = bool(data)
        self.note = (
            f"timing cache of {len(data):,} bytes reused"
            if data
            else (f"timing cache started again: {problem}" if problem else "timing cache started")
        )

    def save(self) -> None:
        """Write what the builder knows now, together with what another build wrote in the meantime."""
        cache = self._config.get_timing_cache()
        data, _ = self._read()
        # What was there before is in it already, or was refused.
        other = _create(self._config, data) if data != self._seen else None
        if other is not None:
            cache.combine(other, False)
        found = bytes(cache.serialize())
        write_bytes(self.path, found)
        write_json(self._description(), self._described(hashlib.sha256(found).hexdigest()))

    def _description(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _described(self, digest: str) -> dict[str, object]:
        return {"format": _FORMAT, "sha256": digest, **self._facts}

    def _read(self) -> tuple[bytes, str]:
        """The cache's bytes, empty if there are none to use, and why if there is a file."""
        try:
            with open_regular(self.path) as file:
                data = file.read()
        except FileNotFoundError:
            return b"", ""
        except OSError as error:
            return b"", f"it cannot be read ({error.strerror})"
        try:
            found = read_json(self._description())
        except (OSError, ValueError):
            return b"", "its description is missing or damaged"
        digest = hashlib.sha256(data).hexdigest()
        if not isinstance(found, dict) or found.get("sha256") != digest:
            return b"", "it was cut off or altered"
        if found != self._described(digest):
            return b"", "it is of another device or version"
        return data, ""


def _create(config: Any, data: bytes) -> Any:
    try:
        return config.create_timing_cache(data)
    except Exception:  # the bindings turn a null pointer into an exception of varying type
        return None
