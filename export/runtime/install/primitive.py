"""Install, roll back, collect: each step leaves a verified model that serves, wherever it is cut off.

staging -> verified -> releases/ID -> self-test -> state: trial -> current -> watched -> state: committed
                                      (the old model serves)              `-> current back, state: failed
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Callable, Iterator, Optional, Tuple

from .disk import ABSENT, FOLDER, remove_tree, sync_tree
from .errors import InstallError, Refused, TakenBack, Usage
from .recovery import follow, is_older, mark, recover
from .site import BUNDLE, ID, Site, note, save
from .source import Source, stage
from .state import Release, State, Trial

_STAGED = "next"
KEEP = 3

Prove = Callable[[str], None]
"""Runs the self-test of the bundle in a folder; raises `TakenBack` if it fails."""
Watch = Callable[[str], None]
"""Watches the release of an id, which serves; returns when it proved itself, raises `TakenBack` if it does not."""


@dataclass(frozen=True)
class Installed:
    """What an install came to."""

    release: Release
    is_new: bool
    """False: it served already."""
    notes: Tuple[str, ...]


def install(site: Site, source: Source, prove: Prove, watch: Watch, window_s: float) -> Installed:
    """Install a release. The caller holds the lock.

    Args:
        site: where.
        source: the bundle.
        prove: self-test, while the old model serves.
        watch: judges the release once it serves.
        window_s: seconds within which `watch` returns; after them a runtime takes the trial for abandoned.

    Raises:
        Refused: it is no bundle, not trusted, or older than what was committed here.
        TakenBack: it failed its self-test or while it was watched; the old model serves.
        Environment: no engine of it runs here, the disk is full, or the like; the old model serves.
    """
    found = recover(site)
    state = found.state
    staged = site.path("staging", _STAGED)
    try:
        stage(site.disk, source, staged)
        release = site.verify(os.path.join(staged, BUNDLE))
        _refuse_older(state, release)
        words = () if state.active == release.id else site.fits(os.path.join(staged, BUNDLE))
        place(site, staged, release.id)
    finally:
        remove_tree(site.disk, staged)
    if state.active == release.id:
        note(site, "installed already", release.id)
        return Installed(release, False, found.notes)
    try:
        prove(site.bundle(release.id))
    except TakenBack as error:
        _forget(site, state, release.id, error.what)
        raise
    try:
        deadline = site.machine.now() + window_s
        save(site, replace(state, trial=Trial(release.id, site.machine.boot_id, deadline)))
        follow(site, state, serves=release.id)
        note(site, "on trial", release.id)
        watch(release.id)
        with uninterrupted():
            committed = state.after_commit(release)
            follow(site, committed)
            save(site, committed)
            mark(site, committed)
    except BaseException as error:
        with uninterrupted():
            _take_back(site, state, release.id, error)
        raise
    note(site, "committed", release.id)
    return Installed(release, True, (*found.notes, *words))


def place(site: Site, staged: str, id: str) -> None:
    """Move a verified release to its place; one that is there and good only gets the signatures that it lacks."""
    disk, place = site.disk, site.path("releases", id)
    sync_tree(disk, staged)
    if site.is_good(id):
        for name in disk.names(staged):
            if name != BUNDLE and disk.kind(os.path.join(place, name)) == ABSENT:
                disk.rename(os.path.join(staged, name), os.path.join(place, name))
        disk.sync(place)
        return
    if disk.kind(place) != ABSENT:
        disk.rename(place, site.path("trash", id))
    disk.rename(staged, place)
    disk.sync(site.path("releases"))


def rollback(site: Site, to: Optional[str] = None) -> Release:
    """Let an earlier release serve again. The caller holds the lock.

    Args:
        site: where.
        to: a release that was committed here, by the beginning of its id; the one before if None.

    Raises:
        Usage: there is no such release, or none before.
        Refused: it no longer passes verification.
    """
    state = recover(site).state
    target = _committed(state, to) if to is not None else state.release(state.previous or "")
    if target is None:
        raise Usage(
            "no earlier release was committed here", site.root, "see `status` for the releases that are here"
        )
    if target.id == state.active:
        return target
    if not site.is_good(target.id):
        raise Refused(
            "release {} no longer passes verification".format(target.id[:12]), site.root, "install it again"
        )
    withdrawn = tuple(id for id in state.withdrawn if id != target.id)
    if state.active is not None:
        withdrawn = (*withdrawn, state.active)
    after = replace(state, active=target.id, withdrawn=withdrawn)
    with uninterrupted():
        follow(site, after)
        save(site, after)
        mark(site, after)
    note(site, "rolled back by hand", target.id)
    return target


def collect(site: Site, keep: int = KEEP) -> Tuple[str, ...]:
    """Remove releases but the one that serves, the one before and the last `keep`; ids of what was removed.

    The caller holds the lock.
    """
    state = recover(site).state
    last = [one.id for one in state.committed if one.id not in state.withdrawn][-keep:] if keep else []
    kept = {state.active, state.previous, *last}
    gone = [name for name in site.disk.names(site.path("releases")) if ID.match(name) and name not in kept]
    committed = tuple(one for one in state.committed if one.id not in gone)
    after = replace(
        state, committed=committed, withdrawn=tuple(id for id in state.withdrawn if id not in gone)
    )
    if after != state:
        save(site, after)
    for id in gone:
        site.disk.rename(site.path("releases", id), site.path("trash", id))
        remove_tree(site.disk, site.path("trash", id))
    if gone:
        note(site, "removed {} releases".format(len(gone)))
    return tuple(gone)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What must not be left half done waits with the answer to Ctrl-C and a polite kill."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _refuse_older(state: State, release: Release) -> None:
    """Only a lower sequence: the bundles of one run, for several engines, share one, and neither is older."""
    above = is_older(state, release)
    if above is not None and release.id != state.active:
        raise Refused(
            "sequence {} of {} is older than {}, which was committed here".format(
                release.sequence, release.name, above
            ),
            release.id[:12],
            "use `rollback` to go back to a release that was committed here, or make the bundle again",
        )


def _committed(state: State, start: str) -> Optional[Release]:
    fitting = [one for one in state.committed if one.id.startswith(start)] if len(start) >= 4 else []
    return fitting[0] if len(fitting) == 1 else None


def _forget(site: Site, state: State, id: str, why: str) -> None:
    """A release that never served goes; what was committed here before stays, to roll back to."""
    if state.release(id) is None and site.disk.kind(site.path("releases", id)) == FOLDER:
        site.disk.rename(site.path("releases", id), site.path("trash", id))
        remove_tree(site.disk, site.path("trash", id))
    save(site, state.after_failure(id, why))
    note(site, "failed its self-test: " + why, id)


def _take_back(site: Site, state: State, id: str, error: BaseException) -> None:
    """The old model serves again. A disk that does not let that be written leaves it to `recover`: the state still
    names the trial, which ends with this process."""
    why = error.what if isinstance(error, InstallError) else "it was interrupted"
    try:
        follow(site, state)
        save(site, state.after_failure(id, why))
        note(site, "taken back: " + why, id)
    except InstallError:
        pass
