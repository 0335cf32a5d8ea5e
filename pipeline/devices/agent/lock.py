"""One host at a time works on a device.

The lock is the kernel's (flock), so that it ends with the processes that hold it: after a reboot, a kill or a
crash there is nothing stale to recover. A job inherits it, and so keeps the device when its host is cut off.
The file's text is for people: who holds it, and since when.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time

from . import files, system
from .requests import Answer


class DeviceLock:
    """The lock of a work folder, as one agent sees it."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "lock")
        self._facts = os.path.join(folder, "lock.json")
        self._fd = -1

    @property
    def fd(self) -> int:
        """The descriptor that holds the lock, for a job to inherit; -1 if it is not held."""
        return self._fd

    def acquire(self, owner: Answer) -> Answer | None:
        """Take the lock; None, or the facts of who has it.

        Args:
            owner: facts of the host's session; its `session` names it.
        """
        if self._fd >= 0 or self._take(owner):
            return None
        self.reclaim_stale(owner)
        return None if self._take(owner) else self.holder()

    def reclaim_stale(self, owner: Answer) -> None:
        """End the agent that an earlier connection of the same session left behind, if it has the lock."""
        if self._fd < 0 and self.held() and self.holder().get("session") == owner["session"]:
            self._end(self._holder_pid())

    def holder(self) -> Answer:
        """Facts of who has the lock or had it last: `held_s`, how long by now, and whether it is still `connected`."""
        facts = files.read_json(self._facts) or {}
        since = facts.get("since")
        held_s = max(0, int(system.uptime() - since)) if since is not None else None
        connected = system.process_state(self._holder_pid()) not in ("", "Z")
        return dict(facts, held_s=held_s, connected=connected)

    def held(self) -> bool:
        """Whether anybody else holds the lock."""
        return self._fd < 0 and files.locked(self._path)

    def evict(self) -> None:
        """End the agent that holds the lock, whoever's it is."""
        if self.held():
            self._end(self._holder_pid())

    def release(self) -> None:
        """Let go; a job that inherited the lock keeps it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _holder_pid(self) -> int:
        return int((files.read_json(self._facts) or {}).get("pid", 0))

    def _take(self, owner: Answer) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        if not _same(fd, self._path):  # a cleaning removed the file between our open and our lock
            os.close(fd)
            return False
        self._fd = fd
        try:
            files.write_json(self._facts, dict(owner, pid=os.getpid(), since=system.uptime()))
        except OSError:  # a full disk: the lock holds all the same, it only cannot say for whom
            files.remove(self._facts)
        return True

    @staticmethod
    def _end(pid: int) -> None:
        if pid <= 1 or pid == os.getpid() or " serve " not in system.command_line(pid):
            return
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + 5
        while system.process_state(pid) not in ("", "Z") and time.monotonic() < deadline:
            time.sleep(0.02)


def _same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
