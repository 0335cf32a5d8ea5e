"""Jobs on disk: started as a process of their own, found again by their name, ended, removed.

jobs/<job>/alive          locked (flock) as long as the job's processes live
jobs/<job>/state.json     what was started, when, in which boot
jobs/<job>/events.jsonl   what the job emitted
jobs/<job>/log.txt        its stdout and stderr
jobs/<job>/outcome.json   how it ended; written last
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from typing import Iterator, Mapping

from export.runtime.files import sha256

from . import files, system
from .errors import JobError, killed

_NAME = re.compile(r"^[a-z0-9_]{1,40}-[0-9a-f]{16}$")
# Given back before a failure is written down, so that a full disk can still say that it is full.
RESERVE = 64 << 10
# Outcomes of detached jobs that nobody has fetched yet; the device's clock may be wrong, so they are counted.
KEEP_OUTCOMES = 8


class Jobs:
    """The folder of jobs."""

    def __init__(self, folder: str, program: str) -> None:
        self._folder = folder
        self._program = program
        self._children: list[subprocess.Popen[bytes]] = []
        files.own_folder(os.path.join(folder, "jobs"))

    def place(self, job: str, name: str = "") -> str:
        """The folder of a job, or a file in it."""
        if not _NAME.match(job):
            raise JobError("'{}' is no job".format(job), kind="request")
        place = os.path.join(self._folder, "jobs", job)
        path = os.path.normpath(os.path.join(place, name))
        if path != place and not path.startswith(place + os.sep):
            raise JobError("'{}' is outside the job's folder".format(name), kind="request")
        return path

    def names(self) -> list[str]:
        """Jobs that there are; a link is none of ours."""
        place = os.path.join(self._folder, "jobs")
        found = [name for name in os.listdir(place) if _NAME.match(name)]
        return sorted(name for name in found if not os.path.islink(os.path.join(place, name)))

    def running(self, job: str) -> bool:
        """Whether a process of the job lives: the kernel knows, whatever happened to who started it."""
        return files.locked(self.place(job, "alive"))

    def outcome(self, job: str) -> dict[str, object] | None:
        """How a job ended; None while it runs."""
        if self.running(job):
            return None
        found = files.read_json(self.place(job, "outcome.json"))
        return dict(found) if found is not None else failure(self._lost(job))

    def state(self, job: str) -> str:
        """`absent`, `running`, `done`, `failed` or `lost` (it ended without a word)."""
        if not os.path.isdir(self.place(job)):
            return "absent"
        if self.running(job):
            return "running"
        found = files.read_json(self.place(job, "outcome.json"))
        if found is None:
            return "lost"
        return "done" if found["ok"] else "failed"

    def start(self, job: str, name: str, request: Mapping[str, object], tie: str, device_lock: int) -> None:
        """Start a job in a session of its own; what an earlier attempt left is removed first.

        Args:
            job: its folder's name.
            name: which job it is.
            request: what it is asked.
            tie: `detached` lives on without its host and keeps the device, `attached` does not, `shared` does not
                need the device for itself.
            device_lock: the descriptor that a detached job inherits.
        """
        self.remove(job)
        place = self.place(job)
        if sha256(self._program) + ".pyz" != os.path.basename(self._program):
            raise JobError(
                "the agent's program was changed since it was sent", "see who changed it, then run again"
            )
        files.own_folder(place)
        with open(os.path.join(place, "reserve"), "wb") as reserve:
            reserve.write(b"\0" * RESERVE)
        files.write_json(os.path.join(place, "request.json"), {"job": name, "request": request})
        open(os.path.join(place, "events.jsonl"), "wb").close()
        alive = os.open(os.path.join(place, "alive"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX)
            with open(os.path.join(place, "log.txt"), "wb") as log:
                process = subprocess.Popen(
                    [sys.executable, self._program, "work", self._folder, job],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=place,
                    env=dict(os.environ, **{system.MARK: self.mark(job)}),
                    pass_fds=[alive, device_lock] if tie == "detached" else [alive],
                    start_new_session=True,
                )
        finally:
            os.close(alive)
        self._children.append(process)
        state = {
            "pid": process.pid,
            "boot_id": system.boot_id(),
            "job": name,
            "tie": tie,
        }
        files.write_json(os.path.join(place, "state.json"), state)

    def reap(self) -> None:
        """Let children that ended go."""
        self._children = [child for child in self._children if child.poll() is None]

    def stopped(self, job: str) -> bool:
        """Whether somebody stopped the job (SIGSTOP): it lives, and will never end."""
        state = files.read_json(self.place(job, "state.json")) or {}
        family = [int(state.get("pid", 0)), *system.children(int(state.get("pid", 0)))]
        return any(system.process_state(pid) == "T" for pid in family)

    def sweep(self) -> None:
        """With the device's lock held: end what nobody waits for any more, and remove it."""
        waiting = []
        for job in self.names():
            tie = (files.read_json(self.place(job, "state.json")) or {}).get("tie", "attached")
            if tie == "detached":
                waiting.append(job)
            elif tie != "shared" or not self.running(job):
                self.remove(job)
        waiting.sort(key=lambda job: os.path.getmtime(self.place(job, "state.json")))
        for job in waiting[:-KEEP_OUTCOMES]:
            self.remove(job)

    def end(self, job: str) -> None:
        """Kill a job and all that it started."""
        if not system.kill_marked(self.mark(job)):
            raise JobError("processes of a job could not be ended", "reboot the device", "busy")
        self.reap()

    def remove(self, job: str) -> None:
        """End a job, and remove its folder."""
        if os.path.isdir(self.place(job)):
            self.end(job)
            shutil.rmtree(self.place(job))

    def mark(self, job: str) -> str:
        """What the processes of a job carry in their environment."""
        return "{}/{}".format(self._folder, job)

    def events(self, job: str, offset: int) -> Iterator[tuple[int, bytes]]:
        """(offset after it, line) of each event that was written since an offset."""
        try:
            with open(self.place(job, "events.jsonl"), "rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    offset += len(line)
                    yield offset, line.rstrip(b"\n")
        except FileNotFoundError:
            return

    def log_tail(self, job: str, limit: int = 4000) -> str:
        """The end of a job's log."""
        try:
            with open(self.place(job, "log.txt"), "rb") as file:
                file.seek(max(0, os.path.getsize(file.name) - limit))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def _lost(self, job: str) -> JobError:
        state = files.read_json(self.place(job, "state.json")) or {}
        if state.get("boot_id", system.boot_id()) != system.boot_id():
            return JobError(
                "the device was rebooted while the job ran",
                "look for a reason (power supply, heat), then run again",
                "rebooted",
            )
        return killed("the job", 9)


def failure(error: JobError) -> dict[str, object]:
    """An outcome that says what went wrong."""
    return {
        "ok": False,
        "what": error.what,
        "fix": error.fix,
        "kind": error.kind,
        "said": list(error.said),
        "beside": list(error.beside),
    }
