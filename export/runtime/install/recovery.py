"""What a device does after whatever stopped it: the one function that install, runtime and boot alike begin with.

Whoever calls it holds the lock. So nobody watches a trial that the state still names: it was cut off by a
power cut, a crash or a kill, and the release that was committed before it serves again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Callable, Optional, Tuple

from . import state as states
from .disk import ABSENT, FILE, FOLDER, remove_tree, replace_link
from .errors import Environment, Refused
from .site import ID, PROVEN, WITHDRAWN, Site, load, note, prepare, save
from .state import Release, State


@dataclass(frozen=True)
class Recovered:
    """The state after a recovery, and what it found."""

    state: State
    notes: Tuple[str, ...]


def decide(state: State, boot_id: str, is_good: Callable[[str], bool]) -> Recovered:
    """The state to go on with; pure but for `is_good`.

    Args:
        state: as it was found.
        boot_id: of now.
        is_good: whether a release is here and passes verification.
    """
    notes = []
    if state.trial is not None:
        why = "the device restarted" if state.trial.boot_id != boot_id else "the install was stopped"
        notes.append("{} while release {} was on trial: it was taken back".format(why, state.trial.to[:12]))
        state = state.after_failure(state.trial.to, "{} during the trial".format(why))
    candidates = [one.id for one in reversed(state.committed) if one.id not in state.withdrawn]
    if state.active is not None:
        candidates = [state.active, *(id for id in candidates if id != state.active)]
    active = next((id for id in candidates if is_good(id)), None)
    if active != state.active:
        gone = "release {} is damaged or no longer trusted".format((state.active or "")[:12])
        notes.append("{}: {} serves".format(gone, "release " + active[:12] if active else "nothing"))
    return Recovered(replace(state, active=active), tuple(notes))


def serving(state: State, boot_id: str, now: float, install_at_work: bool) -> Optional[str]:
    """Id of the release that is to serve now, from reading alone; it is still verified when it is loaded.

    A runtime that must not write, or meets the lock held, asks this.
    """
    trial = state.trial
    if trial is not None and install_at_work and trial.boot_id == boot_id and now <= trial.deadline:
        return trial.to
    return state.active


def recover(site: Site) -> Recovered:
    """Bring the folder into a state from which everything else can start. Runs again after being cut off itself."""
    prepare(site)
    for folder in ("staging", "trash"):
        for name in site.disk.names(site.path(folder)):
            remove_tree(site.disk, site.path(folder, name))
    notes: list[str] = []
    found: Optional[State] = None
    try:
        state = found = load(site)
    except ValueError as error:
        state = _rebuilt(site)
        notes.append(
            "state.json is damaged ({}): made again from the releases that were proven and verify".format(
                error
            )
        )
    done = decide(state, site.machine.boot_id, site.is_good)
    changed = follow(site, done.state)
    if done.state != found:
        save(site, done.state)
    elif changed:
        site.disk.sync(site.root)
    mark(site, done.state)
    notes += done.notes
    for text in notes:
        note(site, text)
    return Recovered(done.state, tuple(notes))


def follow(site: Site, state: State, serves: Optional[str] = None) -> bool:
    """Let the links agree with the state, or with a release on trial; whether anything was changed. Not synced."""
    changed = False
    now = serves or state.active
    before = state.active if serves else state.previous
    for name, id in (("previous", before), ("current", now)):
        path = site.path(name)
        wanted = os.path.join("releases", id) if id else None
        if wanted == site.disk.target(path) and (wanted or site.disk.kind(path) == ABSENT):
            continue
        if wanted:
            replace_link(site.disk, path, wanted)
        else:
            site.disk.remove(path)
        changed = True
    return changed


def mark(site: Site, state: State) -> None:
    """Let the marks beside releases agree with the state, which is on the medium already.

    They are read only where the state is lost, so that a release that was never proven does not count as committed. Not
    synced: the next recovery writes what a power cut took.
    """
    wanted = {PROVEN: {one.id for one in state.committed}, WITHDRAWN: set(state.withdrawn)}
    for id in site.disk.names(site.path("releases")):
        if not ID.match(id) or site.disk.kind(site.path("releases", id)) != FOLDER:
            continue
        for name, ids in wanted.items():
            path = site.path("releases", id, name)
            try:
                if id in ids and site.disk.kind(path) == ABSENT:
                    site.disk.write(path, [])
                elif id not in ids and site.disk.kind(path) == FILE:
                    site.disk.remove(path)
            except Environment:  # a full disk stops no commit
                continue


def _rebuilt(site: Site) -> State:
    """A state from the releases that were proven here and verify: what was linked serves, then the highest sequence."""
    releases, withdrawn = [], []
    for name in site.disk.names(site.path("releases")):
        if not ID.match(name) or not _is_marked(site, name, PROVEN) or not site.is_good(name):
            continue
        try:
            releases.append(site.verify(site.bundle(name)))
        except Refused:  # it changed in between
            continue
        if _is_marked(site, name, WITHDRAWN):
            withdrawn.append(name)
    linked = os.path.basename(site.disk.target(site.path("current")) or "")
    state = states.State()
    for release in sorted(releases, key=lambda one: (one.id == linked, one.sequence, one.id)):
        state = state.after_commit(release)
    active = state.active if state.active not in withdrawn else None
    return replace(state, active=active, withdrawn=tuple(withdrawn))


def _is_marked(site: Site, id: str, mark: str) -> bool:
    return site.disk.kind(site.path("releases", id, mark)) == FILE


def is_older(state: State, release: Release) -> Optional[int]:
    """The highest sequence that was committed in one of a release's lines, if it is above the release's own."""
    above = [state.highest[line] for line in release.lines if state.highest.get(line, 0) > release.sequence]
    return max(above, default=None)
