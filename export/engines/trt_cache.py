"""The timing cache: what the builder measured of kernels, kept for the next build.

One file for each version of TensorRT, device and kind of network, since it is of use for nothing else. Beside it lies
a JSON file with its digest: what was cut off or altered, or belongs elsewhere, is not given to the library but
replaced by what this build measures.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.files import open_regular, read_json, write_bytes, write_json

_FORMAT = 1


@dataclass(frozen=True)
class CacheKey:
    """What a timing cache belongs to."""

    module: str
    version: str
    device: str
    """Name of the GPU."""
    compute_capability: str
    platform: str
    """CPU architecture, and on a Jetson the L4T release."""
    kind: str
    """Precision and typing of the network, such as `fp16` or `int8-weak`."""

    def file(self, folder: Path) -> Path:
        """The cache file in `folder`: every part of the key is in its name."""
        parts = (self.module, self.version, self.device, self.compute_capability, self.platform, self.kind)
        plain = (re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)
        return Path(folder) / f"timing_{'_'.join(plain)}.cache"

    def facts(self) -> dict[str, str]:
        """For the JSON file beside the cache."""
        return dict(vars(self))


class TimingCache:
    """The timing cache of one build: attached to the builder's config before, saved after."""

    def __init__(self, config: Any, folder: Path, key: CacheKey) -> None:
        """Attach what there is of `key` in `folder` to `config`, or an empty cache."""
        self._config, self._key = config, key
        self.path = key.file(folder)
        data, problem = _read(self.path, key)
        self._seen = data
        cache = _create(config, data)
        if cache is None or not config.set_timing_cache(cache, False):
            problem = problem or "the library refuses it: it is of another device or version"
            data = b""
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        self.reused = bool(data)
        """Whether measurements of an earlier build were there."""
        self.note = (
            f"timing cache of {len(data):,} bytes reused"
            if data
            else (f"timing cache started afresh: {problem}" if problem else "timing cache started")
        )
        """One line for logs."""

    def save(self) -> None:
        """Write what the builder knows now, together with what another build wrote in the meantime."""
        cache = self._config.get_timing_cache()
        data, _ = _read(self.path, self._key)
        # What was there before is in it already, or was refused.
        other = _create(self._config, data) if data != self._seen else None
        if other is not None:
            cache.combine(other, False)
        found = bytes(cache.serialize())
        write_bytes(self.path, found)
        facts: Mapping[str, object] = {
            "format": _FORMAT,
            "sha256": hashlib.sha256(found).hexdigest(),
            **self._key.facts(),
        }
        write_json(_facts_path(self.path), facts)


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read(path: Path, key: CacheKey) -> tuple[bytes, str]:
    """The cache's bytes, empty if there are none to use, and why if there is a file."""
    try:
        with open_regular(path) as file:
            data = file.read()
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"it cannot be read ({error.strerror})"
    try:
        facts = read_json(_facts_path(path))
    except (OSError, ValueError):
        return b"", "its description is missing or damaged"
    if not isinstance(facts, dict) or facts.get("sha256") != hashlib.sha256(data).hexdigest():
        return b"", "it was cut off or altered"
    if facts != {"format": _FORMAT, "sha256": facts["sha256"], **key.facts()}:
        return b"", "it is of another device or version"
    return data, ""


def _create(config: Any, data: bytes) -> Any:
    try:
        return config.create_timing_cache(data)
    except Exception:  # the bindings turn a null pointer into an exception of varying type
        return None
