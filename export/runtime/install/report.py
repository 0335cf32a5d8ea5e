"""What is installed on a device, as data and as lines to read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from .choice import chosen_id
from .disk import FILE, FOLDER
from .errors import Environment
from .health import Heartbeat, Rules, heartbeats
from .outputs import DAYS, Outputs, outputs_of
from .site import ID, Site, is_locked, load
from .state import Release, State

FORMAT = 1


@dataclass(frozen=True)
class Status:
    """A device's releases."""

    root: str
    state: State
    serves: Optional[str]
    """Id of the release that is to serve now: the one on trial, or the one that was committed last."""
    at_work: bool
    """Whether an install is at work."""
    here: Tuple[str, ...]
    """Ids of the releases whose files are here."""
    bytes: int
    runtimes: Tuple[Heartbeat, ...]
    outputs: Optional[Outputs]
    """Of the release that serves; None where none does."""


def status(site: Site) -> Status:
    """What is installed; reads only, and verifies nothing.

    Raises:
        Environment: nothing was ever installed here, or the state is damaged.
    """
    if site.disk.kind(site.path("state.json")) != FILE:
        raise Environment(
            "nothing was installed here", site.root, "give the folder with --root, or install a bundle"
        )
    try:
        state = load(site)
    except ValueError as error:
        raise Environment("state.json is damaged: {}".format(error), site.root, "run `recover`") from None
    serves = chosen_id(site)
    here = tuple(name for name in site.disk.names(site.path("releases")) if ID.match(name))
    return Status(
        site.root,
        state,
        serves,
        is_locked(site.root),
        here,
        sum(_size(site, site.path("releases", id)) for id in here),
        tuple(heartbeats(site, Rules().silence_s)),
        outputs_of(site, serves) if serves else None,
    )


def as_json(found: Status) -> Dict[str, Any]:
    """A status for other programs; docs/shipping.md lists the fields."""
    trial = found.state.trial
    return {
        "format": FORMAT,
        "root": found.root,
        "serves": found.serves,
        "active": found.state.active,
        "previous": found.state.previous,
        "trial": trial.to if trial else None,
        "at_work": found.at_work,
        "bytes": found.bytes,
        "releases": [
            {
                "id": one.id,
                "name": one.name,
                "channel": one.channel,
                "sequence": one.sequence,
                "here": one.id in found.here,
                "withdrawn": one.id in found.state.withdrawn,
            }
            for one in found.state.committed
        ],
        "failed": dict(found.state.failed),
        "outputs": _outputs(found.outputs),
        "runtimes": [
            {
                "name": one.name,
                "release": one.release,
                "requests": one.requests,
                "errors": one.errors,
                "p99_ms": one.p99_ms,
            }
            for one in found.runtimes
        ],
    }


def _outputs(found: Optional[Outputs]) -> Optional[Dict[str, Any]]:
    if found is None or found.counted is None:
        return None
    return {
        "days": DAYS,
        "counted": found.counted.to_json(),
        "reference": found.reference.to_json() if found.reference else None,
    }


def lines(found: Status) -> List[str]:
    """A status to read, newest release first."""
    text = ["{}: {:.1f} MB in {} releases".format(found.root, found.bytes / 1e6, len(found.here))]
    if found.state.trial:
        text.append("on trial    {}".format(found.state.trial.to[:12]))
    for one in reversed(found.state.committed):
        text.append("{:<11} {}".format(_role(found, one), _release_line(one)))
    for id, why in found.state.failed.items():
        text.append("failed      {}: {}".format(id[:12], why))
    for beat in found.runtimes:
        numbers = "{} requests, {} errors".format(beat.requests, beat.errors)
        p99 = "" if beat.p99_ms is None else ", p99 {:.3g} ms".format(beat.p99_ms)
        text.append(
            "runtime     {} serves {}: {}{}".format(beat.name, beat.release[:12] or "nothing", numbers, p99)
        )
    if found.outputs is not None and found.outputs.counted is not None:
        text.append("answers     {} counted in {} days".format(found.outputs.counted.images, DAYS))
    if found.outputs is not None and found.outputs.is_off:
        text.append("answers     not counted, as the bundle says")
    if found.state.active is None and found.state.trial is None:
        text.append("no release serves")
    return text


def _role(found: Status, release: Release) -> str:
    if release.id == found.state.active:
        return "serves" if found.serves == release.id else "active"
    if release.id in found.state.withdrawn:
        return "rolled back"
    if release.id == found.state.previous:
        return "previous"
    return "kept" if release.id in found.here else "removed"


def _release_line(release: Release) -> str:
    return "{}  {} {}, sequence {}".format(release.id[:12], release.name, release.channel, release.sequence)


def _size(site: Site, path: str) -> int:
    if site.disk.kind(path) == FOLDER:
        return sum(_size(site, os.path.join(path, name)) for name in site.disk.names(path))
    return os.lstat(path).st_size if site.disk.kind(path) == FILE else 0
