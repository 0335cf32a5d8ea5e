"""Where releases lie on a device, and what an install needs from the machine.

ROOT/
  .figkd-releases      the mark: without it, a folder that holds anything is not used
  state.json           see `state`
  releases/ID/bundle   one release; beside it bundle.KEY.sig, its signatures; and the marks below
  current, previous    links to releases/ID; they follow state.json
  staging/ trash/      what is being written, and removed
  health/NAME.json     written by whoever serves, see `health`
  events.jsonl         what happened, bounded; nothing depends on it
  lock                 held (flock) by whoever changes any of this
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator, Optional, Tuple

from . import state as states
from .disk import ABSENT, FOLDER, Disk, LocalDisk, replace_file
from .errors import Environment, Refused
from .state import Release, State

MARK = ".figkd-releases"
BUNDLE = "bundle"
PROVEN = "proven"
WITHDRAWN = "withdrawn"
"""Files beside a bundle: the release was committed here; and rolled back by hand since."""
ID = re.compile(r"[0-9a-f]{64}\Z")
_FOLDERS = ("releases", "staging", "trash", "health")
_MOST_EVENTS = 256 * 1024

Verify = Callable[[str], Release]
"""Folder of a bundle to what it is; raises `Refused` if it is damaged, changed, or not signed as it must be."""

Fits = Callable[[str], Tuple[str, ...]]
"""Folder of a verified bundle to what there is to say of its engines; raises `Environment` if none runs here."""


@dataclass(frozen=True)
class Machine:
    """Boot and clock."""

    boot_id: str
    now: Callable[[], float]
    """Seconds since the boot, standby included."""
    sleep: Callable[[float], None]


def this_machine() -> Machine:
    """The machine that this runs on."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot_id = file.read(64).strip()
    except OSError:
        boot_id = "unknown"
    return Machine(boot_id, lambda: time.clock_gettime(time.CLOCK_BOOTTIME), time.sleep)


@dataclass(frozen=True)
class Site:
    """The releases of one device."""

    root: str
    disk: Disk
    verify: Verify
    machine: Machine
    fits: Fits = lambda folder: ()

    def path(self, *names: str) -> str:
        """A path below the root."""
        return os.path.join(self.root, *names)

    def bundle(self, id: str) -> str:
        """Folder of a release's bundle."""
        return self.path("releases", id, BUNDLE)

    def is_good(self, id: str) -> bool:
        """Whether a release is here and passes verification now."""
        if self.disk.kind(self.bundle(id)) != FOLDER:
            return False
        try:
            return self.verify(self.bundle(id)).id == id
        except Refused:
            return False


def prepare(site: Site) -> None:
    """Make the root and its folders where they are missing.

    Raises:
        Environment: there is something else, or it cannot be made.
    """
    disk = site.disk
    _make_folders(disk, site.root)
    if disk.kind(site.path(MARK)) == ABSENT:
        if disk.names(site.root):
            raise Environment(
                "the folder holds other things, and not the mark {}".format(MARK),
                site.root,
                "give an empty folder, or one that does not exist",
            )
        disk.write(site.path(MARK), [b"releases installed by figkd-pipeline\n"])
        disk.sync(site.root)
    for name in _FOLDERS:
        if disk.kind(site.path(name)) == ABSENT:
            disk.make_folder(site.path(name))
    if disk.kind(site.path("state.json")) == ABSENT and not disk.names(site.path("releases")):
        save(site, State())


def refuse_shared(root: str) -> None:
    """Who may write to the folder decides what runs: that is its owner alone.

    Raises:
        Environment: others may.
    """
    try:
        facts = os.stat(root)
    except OSError:
        return
    if facts.st_uid not in (os.geteuid(), 0) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Environment("others may write to the folder", root, "chown it to this user, and chmod go-w")


def _make_folders(disk: Disk, path: str) -> None:
    if disk.kind(path) == ABSENT:
        above = os.path.dirname(path)
        if above != path:
            _make_folders(disk, above)
        disk.make_folder(path)
        disk.sync(above)
    elif disk.kind(path) != FOLDER:
        raise Environment("it is no folder", path, "give a folder, or a path where nothing is")


def load(site: Site) -> State:
    """The state on the disk.

    Raises:
        ValueError: it is damaged.
    """
    content = site.disk.read(site.path("state.json"), states.MOST_BYTES)
    if content is None:
        raise ValueError("it is missing, no plain file, or too long")
    return states.decode(content)


def seen(root: str) -> str:
    """When the newest release that was committed here was made, UTC; empty where that is not known."""
    content = LocalDisk().read(os.path.join(root, "state.json"), states.MOST_BYTES)
    try:
        return states.decode(content or b"").seen
    except ValueError:
        return ""


def save(site: Site, state: State) -> None:
    """Write the state, and wait until it is on the medium; so are then the links in the same folder."""
    replace_file(site.disk, site.path("state.json"), states.encode(state))


def note(site: Site, what: str, id: Optional[str] = None) -> None:
    """Add a line to the log of events; that it cannot be written stops nothing."""
    line = {"time": int(time.time()), "boot": site.machine.boot_id[:8], "what": what, "release": id}
    path = site.path("events.jsonl")
    try:
        if site.disk.read(path, _MOST_EVENTS) is None and site.disk.kind(path) != ABSENT:
            site.disk.rename(path, site.path("events.1.jsonl"))
        site.disk.append(path, json.dumps(line, sort_keys=True).encode("ascii") + b"\n")
    except Environment:
        pass


@contextmanager
def locked(root: str) -> Iterator[None]:
    """Hold the lock of a root that exists; the kernel lets it go when this process ends, whatever ends it.

    Raises:
        Environment: another process holds it.
    """
    handle = _lock_file(root, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Environment(
                "another install is at work", root, "wait until it ends; see `status`"
            ) from None
        yield
    finally:
        os.close(handle)


def is_locked(root: str) -> bool:
    """Whether a process holds the lock."""
    try:
        handle = _lock_file(root, os.O_RDONLY)
    except Environment:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _lock_file(root: str, flags: int) -> int:
    path = os.path.join(root, "lock")
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise Environment(
            "its lock cannot be opened: {}".format(error.strerror), path, "run as the owner of the folder"
        ) from None
