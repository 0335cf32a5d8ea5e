"""What a device counted of its model's answers, a file a day: ROOT/outputs/DAY.RELEASE.RUNTIME.json, about 1 kB.

Whoever serves adds to it every minute; `status` sums up the last week. Not synced: a power cut may take some minutes.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from typing import Optional

from ..bundle.errors import BundleError
from ..bundle.fit import choose
from ..bundle.manifest import MOST_BYTES as MOST_MANIFEST
from ..bundle.manifest import NAME as MANIFEST
from ..bundle.manifest import parse_manifest
from ..counts import OutputCounts, counts_from
from .site import Site

FOLDER = "outputs"
REFERENCE = "reference.json"
"""In a bundle: counts of the answers to validation images, where it was made."""
DAYS = 7
"""That a status sums up."""
_MOST_FILES = 64
_MOST_BYTES = 8192
_NAME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.([0-9a-f]{12})\.[A-Za-z0-9_-]{1,64}\.json\Z")


@dataclass(frozen=True)
class Outputs:
    """Of the release that serves."""

    counted: Optional[OutputCounts]
    """In the last days; None where nothing was counted."""
    reference: Optional[OutputCounts]
    """Where the bundle was made; None where it brings none."""
    is_off: bool = False
    """The bundle says that its answers are not counted."""


def add(root: str, runtime: str, release: str, counts: OutputCounts) -> None:
    """Add to the file of today, and remove the oldest files.

    Raises:
        OSError: it cannot be written.
    """
    if not counts.images:
        return
    folder = os.path.join(root, FOLDER)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    path = os.path.join(folder, "{}.{}.{}.json".format(_day(0), release[:12], runtime))
    before = _read(path)
    if before is not None and len(before.classes) == len(counts.classes):
        counts = counts.plus(before)
    fresh = "{}.{}.new".format(path, os.getpid())
    with open(fresh, "w", encoding="ascii") as file:
        json.dump(counts.to_json(), file, separators=(",", ":"))
    os.replace(fresh, path)
    ours = sorted(name for name in os.listdir(folder) if _NAME.match(name))
    for name in ours[:-_MOST_FILES]:
        os.unlink(os.path.join(folder, name))


def outputs_of(site: Site, release: str) -> Outputs:
    """What was counted of a release; what cannot be read is not there."""
    folder, total = site.path(FOLDER), None
    for name in site.disk.names(folder)[-4 * _MOST_FILES :]:
        found = _NAME.match(name)
        if not found or found.group(2) != release[:12] or found.group(1) <= _day(DAYS):
            continue
        counts = _read(os.path.join(folder, name))
        if counts is not None:
            same = total is not None and len(total.classes) == len(counts.classes)
            total = total.plus(counts) if total is not None and same else counts
    bundle = site.bundle(release)
    try:
        with open(os.path.join(bundle, MANIFEST), "rb") as file:
            manifest = parse_manifest(file.read(MOST_MANIFEST + 1))
        entry = choose(manifest).entry if len(manifest.engines) > 1 else manifest.engines[0]
    except (OSError, BundleError):
        return Outputs(total, None)
    return Outputs(total, _read(os.path.join(bundle, entry.place(REFERENCE))), not manifest.counts)


def _read(path: str) -> Optional[OutputCounts]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            return counts_from(json.loads(file.read(_MOST_BYTES).decode("ascii")))
    except (OSError, ValueError, RecursionError):
        return None


def _day(ago: int) -> str:
    """UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400 * ago))
