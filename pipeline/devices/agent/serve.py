"""The agent while a host is connected: answers its requests, one after the other."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import time
from typing import Any, Callable, Mapping

from . import files, power_mode, system, tidy
from .blobs import CHUNK, Blobs
from .errors import JobError
from .jobs_folder import Jobs, failure
from .lock import DeviceLock
from .requests import Answer, Attach, Clean, Close, Fetch, Have, Introduce, OfJob, Put, Start
from .wire import PROTOCOL, Gone, Wire

_TICK_S = 0.25
_IDLE_S = 5.0
# A host that is silent for less than this may still connect again.
_PATIENCE_S = 60.0
# Other versions of this program that may stay: another host's run may be at work with one.
_KEEP_AGENTS = 3


def serve(folder: str, program: str, silence_s: float) -> int:
    """Serve the host on stdin and stdout until it goes.

    Args:
        folder: the work folder.
        program: this program's archive.
        silence_s: as long the host waits for a sign of life before it connects again.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    agent = _Agent(folder, program, Wire(max(_PATIENCE_S, 3 * silence_s), woken), silence_s)
    try:
        agent.run()
    except Gone:
        pass
    finally:
        agent.leave()
    return 0


class _Agent:
    def __init__(self, folder: str, program: str, wire: Wire, silence_s: float) -> None:
        self._folder = folder
        self._program = program
        self._wire = wire
        self._silence_s = silence_s
        self._blobs = Blobs(folder)
        self._jobs = Jobs(folder, program)
        self._lock = DeviceLock(folder)
        self._owner: Answer = {}
        self._mine: set[str] = set()
        self._following: _Following | None = None
        self._stay = True

    def run(self) -> None:
        self._wire.send(
            type="hello",
            protocol=PROTOCOL,
            python=platform.python_version(),
            node=platform.node(),
            boot_id=system.boot_id(),
            folder=self._folder,
            free=system.free_bytes(self._folder),
            time=time.time(),
            holder=self._lock.holder() if self._lock.held() else None,
        )
        while self._stay:
            request = self._wire.receive(_TICK_S if self._following else _IDLE_S)
            self._jobs.reap()
            if request is not None:
                self._answer(request)
            if self._following is not None:
                self._follow(self._following)

    def leave(self) -> None:
        """The host is gone: end what lives only for it."""
        for job in self._mine:
            self._jobs.remove(job)
        self._put_back()
        self._lock.release()

    def _put_back(self) -> None:
        """The power mode that a job has left which was killed; one that runs on puts it back itself."""
        if self._lock.fd >= 0 and not any(self._jobs.running(job) for job in self._jobs.names()):
            power_mode.put_back(self._folder)

    def _answer(self, request: dict[str, Any]) -> None:
        number = request.get("id")
        try:
            answer = _OPERATIONS[request["op"]](self, request)
        except JobError as error:
            self._wire.send(re=number, type="error", what=error.what, fix=error.fix, kind=error.kind)
        except OSError as error:
            self._wire.send(re=number, type="error", what=str(error), fix="", kind="failed")
        except Gone:
            raise
        except Exception as error:  # a defect of ours must not look like a lost connection
            what = "unexpected {}: {}".format(type(error).__name__, error)
            self._wire.send(re=number, type="error", what=what, fix="please report it", kind="defect")
        else:
            if answer is not None:
                self._wire.send(re=number, **dict({"type": "ok"}, **answer))

    def _ping(self, request: object) -> Answer:
        return {"type": "pong", "time": time.time()}

    def _introduce(self, request: Introduce) -> Answer:
        self._owner = request["owner"]
        self._lock.reclaim_stale(self._owner)  # nobody talks to it any more
        return {"time": time.time()}

    def _have(self, request: Have) -> Answer:
        digest = request["digest"]
        if self._blobs.have(digest):
            return {"have": True}
        return {"have": False, "partial": self._blobs.partial(digest)}

    def _put(self, request: Put) -> Answer | None:
        busy = self._take()
        if busy is not None:
            return busy
        digest, offset, size = request["digest"], request["offset"], request["size"]
        if self._blobs.partial(digest) != offset:
            raise JobError("the part of a file that came before has changed", "run again", "damaged")
        self._blobs.room_for(size - offset)
        self._wire.send(re=request["id"], type="go")
        incoming = self._wire.receive_bytes(size - offset)
        self._blobs.receive(digest, offset, size, incoming, self._alive())
        return {}

    def _start(self, request: Start) -> Answer:
        job, tie = request["job"], request["tie"]
        state = self._jobs.state(job)
        if state in ("running", "done"):
            return {"state": state}
        busy = None if tie == "shared" else self._take()
        if busy is not None:
            return busy
        lost = self._jobs.outcome(job) if state == "lost" else None
        if tie != "detached":
            self._mine.add(job)
        self._jobs.start(job, request["name"], request["request"], tie, self._lock.fd)
        return {"state": "started", "lost": lost}

    def _attach(self, request: Attach) -> None:
        self._following = _Following(request["job"], request["id"], request["offset"])

    def _cancel(self, request: OfJob) -> Answer:
        self._following = None
        return self._release(request)

    def _release(self, request: OfJob) -> Answer:
        self._jobs.remove(request["job"])
        self._mine.discard(request["job"])
        self._put_back()
        return {}

    def _fetch(self, request: Fetch) -> Answer:
        path, offset = self._jobs.place(request["job"], request["name"]), request["offset"]
        if not os.path.isfile(path):
            raise JobError("the job left no file '{}'".format(request["name"]), kind="failed")
        size, seen, alive = os.path.getsize(path), hashlib.sha256(), self._alive()
        with open(path, "rb") as file:
            while file.tell() < offset:
                seen.update(file.read(min(CHUNK, offset - file.tell())))
                alive()
            self._wire.send(re=request["id"], type="file", size=size)
            while file.tell() < size:
                piece = file.read(min(CHUNK, size - file.tell()))
                if not piece:
                    raise Gone  # it shrank while it was sent: only ending the connection says so
                seen.update(piece)
                self._wire.send_bytes(piece)
        return {"sha256": seen.hexdigest()}

    def _list(self, request: object) -> Answer:
        entries = []
        for kind in tidy.OURS:
            place = os.path.join(self._folder, kind)
            for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
                path = os.path.join(place, name)
                used = os.lstat(path).st_mtime
                entries.append({"name": kind + "/" + name, "bytes": files.size_of(path), "used": used})
        states = {job: self._jobs.state(job) for job in self._jobs.names()}
        return {
            "entries": entries,
            "jobs": states,
            "holder": self._lock.holder() if self._lock.held() else None,
        }

    def _close(self, request: Close) -> Answer:
        """The host is done: leave what the next run can use, within the limit."""
        self._stay = False
        if self._lock.fd < 0:
            return {"removed": 0}
        self._jobs.sweep()
        self._old_agents()
        return {"removed": self._blobs.shrink(request["keep"], self._alive())}

    def _clean(self, request: Clean) -> Answer:
        """Leave nothing; with `force`, also end what another host runs here."""
        if request["force"]:
            for job in self._jobs.names():
                self._jobs.remove(job)
            self._lock.evict()
        busy = self._take()
        if busy is not None:
            return busy
        self._stay = False
        before = files.size_of(self._folder)
        for job in self._jobs.names():
            self._jobs.remove(job)
        self._put_back()  # what remembers it goes too
        left = tidy.remove_ours(self._folder, self._alive())
        return {"removed": before - files.size_of(self._folder), "left": left}

    def _take(self) -> Answer | None:
        """Hold the device's lock; None, or the answer that it is busy."""
        if self._lock.fd >= 0:
            return None
        holder = self._lock.acquire(self._owner)
        if holder is not None:
            running = [job.rpartition("-")[0] for job in self._jobs.names() if self._jobs.running(job)]
            return {"type": "busy", "holder": holder, "running": running}
        self._jobs.sweep()
        self._put_back()
        return None

    def _follow(self, following: _Following) -> None:
        over = not self._jobs.running(following.job)
        for offset, line in self._jobs.events(following.job, following.offset):
            self._wire.send_bytes(
                b'{"type": "event", "re": %d, "offset": %d, "event": %s}\n' % (following.number, offset, line)
            )
            following.offset = offset
        if over:
            outcome = self._jobs.outcome(following.job) or {}
        elif following.stopped_for(self._jobs.stopped, self._silence_s):
            self._jobs.end(following.job)
            what = "the job was stopped (SIGSTOP) for {:g} s".format(self._silence_s)
            outcome = failure(
                JobError(what, "see who stops processes on the device, then run again", "killed")
            )
        else:
            return
        self._following = None
        if not outcome["ok"]:
            outcome["log"] = self._jobs.log_tail(following.job)
        self._wire.send(re=following.number, type="outcome", outcome=outcome)

    def _old_agents(self) -> None:
        others = [path for path in tidy.ours(self._folder, "agent") if path != self._program]
        others.sort(key=os.path.getmtime)
        for path in others[:-_KEEP_AGENTS]:
            files.remove(path)

    def _alive(self) -> Callable[[], None]:
        last = time.monotonic()

        def alive() -> None:
            nonlocal last
            if time.monotonic() - last > self._silence_s / 4:
                last = time.monotonic()
                self._wire.send(type="pong")

        return alive


class _Following:
    """A job whose events the host gets as they come."""

    def __init__(self, job: str, number: int, offset: int) -> None:
        self.job = job
        self.number = number
        self.offset = offset
        self._looked = self._moved = time.monotonic()

    def stopped_for(self, stopped: Callable[[str], bool], limit_s: float) -> bool:
        """Whether the job has been stopped at every look for longer than the limit."""
        now = time.monotonic()
        if now - self._looked >= limit_s / 8:
            self._looked = now
            if not stopped(self.job):
                self._moved = now
        return self._looked - self._moved > limit_s


_OPERATIONS: Mapping[str, Callable[[_Agent, Any], Answer | None]] = {
    "ping": _Agent._ping,
    "introduce": _Agent._introduce,
    "have": _Agent._have,
    "put": _Agent._put,
    "start": _Agent._start,
    "attach": _Agent._attach,
    "cancel": _Agent._cancel,
    "release": _Agent._release,
    "fetch": _Agent._fetch,
    "list": _Agent._list,
    "close": _Agent._close,
    "clean": _Agent._clean,
}
