"""How a device judges, alone, whether a release that serves is well.

Whoever serves writes a heartbeat every second or so, `health/NAME.json`: which release it runs, and how that goes. A
release that nobody takes up, that is refused, that fails or that is slow while it is watched, is taken back. Where
nothing serves, the golden data alone decide.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

from .errors import TakenBack
from .primitive import Prove, Watch
from .site import Site

_MOST_BYTES = 8192
_MOST_RUNTIMES = 64
_LONGEST = 200


@dataclass(frozen=True)
class Heartbeat:
    """What a runtime says of itself."""

    name: str
    """Of the runtime; one file each."""
    release: str
    """Id of the release that answers requests; empty where none does."""
    boot_id: str
    at: float
    """Seconds since the boot."""
    requests: int
    """Since this release was loaded."""
    errors: int
    """Of these, those that the model could not answer; bad requests are not among them."""
    p99_ms: Optional[float] = None
    """99th percentile of the latest latencies, milliseconds; None where there are too few."""
    refused: str = ""
    """Id of a release that could not be loaded; the one before goes on answering."""
    reason: str = ""


@dataclass(frozen=True)
class Rules:
    """What a release has to be while it is watched."""

    window_s: float = 30.0
    """How long it is watched."""
    silence_s: float = 5.0
    """A heartbeat is at most so old."""
    load_s: float = 20.0
    """Within so long whoever serves has taken up the new release."""
    most_errors: float = 0.01
    """Share of requests, once there were `enough`."""
    enough: int = 50
    most_p99_ms: Optional[float] = None
    poll_s: float = 0.2


def beat(root: str, heartbeat: Heartbeat) -> None:
    """Write a heartbeat whole. Not synced: after a power cut it means nothing.

    Raises:
        OSError: it cannot be written.
    """
    path = os.path.join(root, "health", heartbeat.name + ".json")
    fresh = "{}.{}.new".format(path, os.getpid())
    with open(fresh, "w", encoding="ascii") as file:
        json.dump(asdict(heartbeat), file)
    os.replace(fresh, path)


def heartbeats(site: Site, silence_s: float) -> List[Heartbeat]:
    """The heartbeats of this boot that are at most so old; what cannot be read is none."""
    found = []
    for name in site.disk.names(site.path("health"))[:_MOST_RUNTIMES]:
        if name.endswith(".json"):
            one = _parse(site.disk.read(site.path("health", name), _MOST_BYTES), name[: -len(".json")])
            if one and one.boot_id == site.machine.boot_id and site.machine.now() - one.at <= silence_s:
                found.append(one)
    return found


def fault(
    rules: Rules, id: str, expected: Sequence[str], beats: Sequence[Heartbeat], elapsed_s: float
) -> str:
    """What is wrong with a release that serves; empty if nothing is. Pure.

    Args:
        rules: what is asked of it.
        id: of the release.
        expected: names of the runtimes that served before.
        beats: fresh heartbeats.
        elapsed_s: seconds since the switch.
    """
    for one in beats:
        if one.refused == id:
            return "{} could not load it: {}".format(one.name, one.reason or "no reason given")
        if one.release != id:
            continue
        if one.requests >= rules.enough and one.errors > rules.most_errors * one.requests:
            return "{} of {} requests failed in {}".format(one.errors, one.requests, one.name)
        if rules.most_p99_ms is not None and one.p99_ms is not None and one.p99_ms > rules.most_p99_ms:
            return "the 99th percentile of latency is {:.3g} ms in {}, and {:.3g} are allowed".format(
                one.p99_ms, one.name, rules.most_p99_ms
            )
    alive = {one.name for one in beats}
    taken_up = {one.name for one in beats if one.release == id}
    for name in expected:
        if name not in alive and elapsed_s > rules.silence_s:
            return "{} gave no sign of life for {:g} s".format(name, rules.silence_s)
        if name not in taken_up and elapsed_s > rules.load_s:
            return "{} did not take it up within {:g} s".format(name, rules.load_s)
    return ""


def watcher(site: Site, rules: Rules, prove: Prove, say: Callable[[str], None]) -> Watch:
    """What watches a release on trial, and runs its self-test again at the end."""

    def watch(id: str) -> None:
        begun = site.machine.now()
        expected = [one.name for one in heartbeats(site, rules.silence_s)]
        if expected:
            say("watched for {:g} s in {}".format(rules.window_s, ", ".join(expected)))
        else:
            say("nothing serves here: the self-test alone decides")
        while expected:
            elapsed = site.machine.now() - begun
            found = fault(rules, id, expected, heartbeats(site, rules.silence_s), elapsed)
            if found:
                raise TakenBack(found)
            if elapsed >= max(rules.window_s, rules.poll_s) and _taken_up(site, rules, id, expected):
                break
            site.machine.sleep(rules.poll_s)
        prove(site.bundle(id))

    return watch


def _taken_up(site: Site, rules: Rules, id: str, expected: Sequence[str]) -> bool:
    """A short window does not end before everybody serves the new release; `fault` bounds how long that takes."""
    return {one.name for one in heartbeats(site, rules.silence_s) if one.release == id} >= set(expected)


def _parse(content: Optional[bytes], name: str) -> Optional[Heartbeat]:
    try:
        found = json.loads((content or b"").decode("ascii"))
        return Heartbeat(
            name,
            _text(found, "release"),
            _text(found, "boot_id"),
            float(found["at"]),
            int(found["requests"]),
            int(found["errors"]),
            None if found["p99_ms"] is None else float(found["p99_ms"]),
            _text(found, "refused"),
            _text(found, "reason"),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _text(found: Dict[str, Any], key: str) -> str:
    value = found[key]
    if not isinstance(value, str):
        raise ValueError(key)
    return value[:_LONGEST]
