"""What steps took when they last ran in a store on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from pipeline.core.manifest import read_manifest
from pipeline.core.store import Store
from pipeline.places import environment


def earlier_seconds(store: Store, steps: Iterable[str]) -> dict[str, float]:
    """The median of what the finished artifacts of each step took here, in s; steps without any are left out."""
    found = {}
    for step in steps:
        made = [m for path in (store.root / "artifacts" / step).glob("*") if (m := read_manifest(path))]
        mine = [m for m in made if m.provenance.get("cpu") == environment.cpu_model()]
        seconds = [s for m in mine if isinstance(s := m.provenance.get("seconds"), int | float) and s]
        if seconds:
            found[step] = float(statistics.median(seconds))
    return found
