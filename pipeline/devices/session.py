"""A session with a device: files go there by digest, jobs run there, what they made comes back.

A connection that is cut is made again a few times: uploads go on at the byte they stopped at, detached jobs are
found again, attached ones are started anew. What cannot be mended is one `DeviceFault`.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from export.files import sha256
from pipeline.devices.address import Device
from pipeline.devices.archive import Archive, agent_archive
from pipeline.devices.channel import CHUNK, Channel, ConnectionLost
from pipeline.devices.faults import connection_fault, fault
from pipeline.devices.greeting import greet, start
from pipeline.devices.sharing import stop_sharing
from pipeline.errors import DeviceFault

T = TypeVar("T")
Tie = Literal["attached", "detached", "shared"]
Events = Callable[[dict[str, Any]], None]
Amount = Callable[[int, int], None]

# Pauses before connecting again, in s; after the last one the device counts as lost.
RETRY_PAUSES_S = (0.5, 2.0, 5.0, 10.0)
_AGAIN = "run again: what was done is kept, and it goes on from there"

_open: set[Session] = set()


class JobFailed(DeviceFault):
    """A job on a device failed and said why.

    Attributes:
        kind: as `pipeline.devices.agent.errors.JobError` lists them.
        log: the end of the job's log.
    """

    def __init__(self, what: str, *, fix: str = "", kind: str = "failed", log: str = "") -> None:
        super().__init__(what, fix=fix)
        self.kind = kind
        self.log = log


@dataclass(frozen=True)
class Done:
    """A job that ended well.

    Attributes:
        job: its name on the device, for `fetch` and `release`.
        result: what it returned.
        seconds: how long it ran there.
        found: it had run, or was running, before it was asked for.
    """

    job: str
    result: dict[str, Any]
    seconds: float
    found: bool


class Session:
    """An open session; use `connect`."""

    def __init__(self, device: Device, agent: Archive, note: Callable[[str], None]) -> None:
        self.device = device
        self.hello: dict[str, Any] = {}
        """What the agent said of itself and the device: python, node, boot_id, folder, free (bytes), time, holder."""
        self.latency_s = 0.0
        """How long a question and its answer take, in s."""
        self.skew_s = 0.0
        """The device's clock minus this one's, in s."""
        self._agent = agent
        self._note = note
        self._owner = {"session": secrets.token_hex(8), "host": platform.node(), "user": _user()}
        self._channel: Channel | None = None
        self._number = 0
        self._moved = [0, 0]
        self._job = ""
        self._worked = False
        self._aborted = False

    @property
    def sent(self) -> int:
        """Bytes sent so far, the protocol's own included."""
        return self._moved[0] + (self._channel.sent if self._channel else 0)

    @property
    def received(self) -> int:
        """Bytes received so far."""
        return self._moved[1] + (self._channel.received if self._channel else 0)

    def put(self, path: Path, progress: Amount = lambda done, total: None) -> str:
        """Send a file, or what is missing of it there.

        Args:
            path: the file.
            progress: called with the bytes that are there, and all.

        Returns:
            Its sha256 (hex), which is its name below `blobs/`.

        Raises:
            DeviceFault: the device is lost, busy or full.
        """
        digest = sha256(path)
        size = path.stat().st_size
        self._worked = True
        doing = f"sending {path.name}"
        try:
            self._persist(doing, lambda moved: self._put(path, digest, size, progress, moved))
        except JobFailed as error:
            if error.kind != "damaged":
                raise
            self._persist(
                doing, lambda moved: self._put(path, digest, size, progress, moved)
            )  # from its start
        return digest

    def run(
        self,
        job: str,
        request: dict[str, Any],
        progress: Events = lambda event: None,
        *,
        detached: bool = False,
        shared: bool = False,
        limit_s: float | None = None,
    ) -> Done:
        """Run a job and wait for it.

        Args:
            job: name of a module of the agent's `jobs`.
            request: what it gets, plain JSON.
            progress: called with every event that the job emits.
            detached: it outlives this session, and a later one with the same request finds it, running or
                finished. Its folder stays until `release`.
            shared: it needs the device neither for itself nor quiet, such as a look at its facts.
            limit_s: give up (and end it) after so long, in s.

        Raises:
            JobFailed: the job said what went wrong.
            DeviceFault: the device is lost or busy.
        """
        self._worked = self._worked or not shared
        tie: Tie = "detached" if detached else "shared" if shared else "attached"
        run = _Run(
            self._job_name(job, request),
            job,
            request,
            tie,
            progress,
            time.monotonic() + limit_s if limit_s else None,
        )
        self._job = run.name
        try:
            return self._persist(f"the job '{job}'", lambda moved: self._run(run, moved))
        except KeyboardInterrupt:
            self._forget(self._job)
            raise
        finally:
            self._job = ""

    def fetch(self, job: str, name: str, destination: Path) -> Path:
        """Copy an output file of a job here, whole or not at all.

        Args:
            job: `Done.job`.
            name: path relative to the job's folder.
            destination: the file to write.

        Raises:
            DeviceFault: the device is lost, or has no such file.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = destination.with_name(f".{destination.name}.part")
        part.unlink(missing_ok=True)
        try:
            self._persist(f"fetching {name}", lambda moved: self._fetch(job, name, part, moved))
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
        return destination

    def release(self, job: str) -> None:
        """Remove a job's folder there: everything that is wanted of it was fetched."""
        self._persist("tidying up", lambda moved: self._ask("release", job=job))

    def inventory(self) -> dict[str, Any]:
        """What lies in the work folder: `entries` of name, bytes and last use, `jobs` with states, `holder`."""
        answer = self._persist("looking around", lambda moved: self._ask("list"))
        return {name: answer[name] for name in ("entries", "jobs", "holder")}

    def clean(self, *, force: bool = False) -> dict[str, Any]:
        """Remove everything there, and end the session.

        Args:
            force: also end what another host runs there.

        Returns:
            `removed` bytes, and `left`: names in the folder that are not the agent's.
        """
        answer = self._persist("cleaning", lambda moved: self._exclusive("clean", force=force))
        self._drop()
        return answer

    def close(self) -> None:
        """Tidy up there, within the device's limit, and end the session."""
        if self._channel is not None and not self._aborted:
            with contextlib.suppress(ConnectionLost, DeviceFault):
                self._ask("close", keep=self.device.keep_mb * 10**6)
        self._drop()
        if self._worked:
            self._note(
                f"{self.device.name}: {self.sent / 1e6:.2f} MB sent, {self.received / 1e6:.2f} MB received"
            )

    def abort(self) -> None:
        """From another thread: end the job that runs, and make the session's own thread stop with KeyboardInterrupt."""
        self._aborted = True
        channel = self._channel
        if channel is not None:
            with contextlib.suppress(ConnectionLost, ValueError):
                channel.send({"op": "cancel", "job": self._job} if self._job else {"op": "list"})

    def open(self) -> None:
        """Connect. Done by `connect`.

        Raises:
            DeviceFault: it cannot be reached, or cannot run the agent.
        """
        channel = start(self.device)
        try:
            self.hello = greet(channel, self.device, self._agent)
            self._channel = channel
            asked = time.monotonic()
            now = self._ask("introduce", owner=self._owner)["time"]
            self.latency_s = time.monotonic() - asked
            self.skew_s = now - (time.time() - self.latency_s / 2)
        except BaseException as error:
            self._channel = None
            channel.close()
            if isinstance(error, ConnectionLost):
                raise connection_fault(self.device, error) from None
            raise
        channel.keep_alive()

    def _persist(self, doing: str, action: Callable[[_Moved], T]) -> T:
        """Do something; if the connection is lost, connect and do it again, a few times without any progress."""
        failures, told = 0, ""
        while True:
            if self._aborted:
                raise KeyboardInterrupt
            moved = _Moved()
            try:
                if self._channel is None:
                    self.open()
                return action(moved)
            except ConnectionLost as lost:
                self._drop(hang=True)
                failures = 1 if moved.yes else failures + 1
                reason = lost.reason
            except JobFailed:
                raise
            except DeviceFault as error:
                if failures == 0 or self._channel is not None:
                    raise
                failures += 1
                reason = error.what.partition(": ")[2]
            if failures > len(RETRY_PAUSES_S):
                what = f"the connection was lost in {doing}, and could not be made again: {reason}"
                raise fault(self.device, what, f"once it can be reached, {_AGAIN}")
            if reason != told:
                self._note(
                    f"{self.device.name}: the connection was lost in {doing} ({reason}); connecting again"
                )
                told = reason
            time.sleep(RETRY_PAUSES_S[failures - 1])

    def _drop(self, *, hang: bool = False) -> None:
        if self._channel is not None:
            self._moved = [self.sent, self.received]
            channel, self._channel = self._channel, None
            if hang:
                stop_sharing(self.device)
            channel.close()

    def _put(self, path: Path, digest: str, size: int, progress: Amount, moved: _Moved) -> None:
        known = self._ask("have", digest=digest)
        if known["have"]:
            progress(size, size)
            return
        offset = int(known["partial"])
        if offset > size:
            offset = 0
        self._exclusive("put", digest=digest, size=size, offset=offset)
        channel = self._open_channel()
        progress(offset, size)
        with path.open("rb") as file, self._unbroken():
            file.seek(offset)
            while (left := size - file.tell()) > 0:
                piece = file.read(min(CHUNK, left))
                if not piece:
                    raise ConnectionLost(f"{path} shrank while it was sent")
                channel.send_bytes(piece)
                moved.yes = True
                progress(file.tell(), size)
        self._answer()

    def _run(self, run: _Run, moved: _Moved) -> Done:
        if run.tie != "detached":
            # Another name for another attempt: the agent that was left behind may still be ending the last one.
            run.name = self._job = self._job_name(run.job, run.request, unique=True)
            if run.starts:
                self._note(f"{self.device.name}: the job '{run.job}' is started anew")
        started = self._exclusive("start", job=run.name, name=run.job, request=run.request, tie=run.tie)
        if started["state"] == "started":
            run.offset = 0
            if run.starts and run.tie == "detached":
                # It was there, and now it is not: running it again by ourselves might only do the same again.
                self._forget(run.name)
                raise self._failure(started["lost"] or {"what": "the job is gone", "fix": _AGAIN})
            if started["lost"]:
                self._note(f"{self.device.name}: an earlier attempt was lost: {started['lost']['what']}")
        elif not run.starts:
            run.found = True
        run.starts += 1
        self._number += 1
        self._open_channel().send({"op": "attach", "id": self._number, "job": run.name, "offset": run.offset})
        while True:
            answer = self._answer(run.end)
            if answer["type"] == "late":
                self._forget(run.name)
                what = f"the job '{run.job}' did not end in time"
                raise self._failure({"what": what, "fix": "see what else the device does", "kind": "late"})
            if answer["type"] == "event":
                run.offset, moved.yes = answer["offset"], True
                run.progress(answer["event"])
                continue
            outcome = answer["outcome"]
            if not outcome["ok"]:
                self._forget(run.name)
                raise self._failure(outcome)
            return Done(run.name, outcome["result"], outcome["seconds"], run.found)

    def _fetch(self, job: str, name: str, part: Path, moved: _Moved) -> None:
        offset = part.stat().st_size if part.exists() else 0
        size = int(self._ask("fetch", job=job, name=name, offset=offset)["size"])
        with part.open("ab") as file, self._unbroken():
            for piece in self._open_channel().receive_bytes(size - offset):
                file.write(piece)
                moved.yes = True
        wanted = self._answer()["sha256"]
        if sha256(part) != wanted:
            raise fault(self.device, f"{name} came with other contents than it was sent with", "run again")

    @contextlib.contextmanager
    def _unbroken(self) -> Iterator[None]:
        """Raw bytes must go to their end; a connection where they did not is of no use any more."""
        try:
            yield
        except ConnectionLost:
            raise
        except BaseException:
            self._drop()
            raise

    def _exclusive(self, operation: str, **words: Any) -> dict[str, Any]:
        """Ask for something that needs the device's lock; wait while another host has it."""
        end = time.monotonic() + self.device.wait_s
        told = False
        while (answer := self._ask(operation, **words))["type"] == "busy":
            who = holder_text(answer["holder"], answer["running"])
            if time.monotonic() > end:
                fix = (
                    "run again when it is done, raise the target's remote.wait_s, or, if nobody is there, "
                    f"figkd-pipeline device clean {self.device.url} --force"
                )
                raise fault(self.device, f"busy: {who}; waited {self.device.wait_s:g} s", fix)
            if not told:
                self._note(f"{self.device.name}: busy: {who}; waiting up to {self.device.wait_s:g} s")
                told = True
            time.sleep(0.5)
        return answer

    def _ask(self, operation: str, **words: Any) -> dict[str, Any]:
        self._number += 1
        self._open_channel().send({"op": operation, "id": self._number, **words})
        return self._answer()

    def _answer(self, end: float | None = None) -> dict[str, Any]:
        """The answer to the last request; what belongs to an earlier one is passed over.

        Its type is `late` if there was none until `end`, a monotonic time.
        """
        while True:
            answer = self._open_channel().receive(end)
            if self._aborted:
                raise KeyboardInterrupt
            if answer is None:
                return {"type": "late"}
            if answer.get("re") != self._number:
                continue
            if answer["type"] == "error":
                raise JobFailed(
                    f"{self.device.name}: {answer['what']}", fix=answer["fix"] or _AGAIN, kind=answer["kind"]
                )
            return answer

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise ConnectionLost("it is closed")
        return self._channel

    def _failure(self, outcome: dict[str, Any]) -> JobFailed:
        return JobFailed(
            f"{self.device.name}: {outcome['what']}",
            fix=outcome["fix"],
            kind=outcome.get("kind", "failed"),
            log=outcome.get("log", ""),
        )

    def _forget(self, job: str) -> None:
        with contextlib.suppress(ConnectionLost, DeviceFault):
            self._ask("cancel", job=job)

    def _job_name(self, job: str, request: dict[str, Any], *, unique: bool = False) -> str:
        key = json.dumps([self._agent.digest, job, request], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return f"{job}-{secrets.token_hex(8) if unique else digest}"


@dataclass
class _Moved:
    """Whether an attempt got anywhere before it was cut."""

    yes: bool = False


@dataclass
class _Run:
    """One `run`, across the connections that it takes."""

    name: str
    job: str
    request: dict[str, Any]
    tie: Tie
    progress: Events
    end: float | None
    offset: int = 0
    starts: int = 0
    found: bool = False


@contextlib.contextmanager
def connect(
    device: Device, *, note: Callable[[str], None] = lambda text: None, agent: Archive | None = None
) -> Iterator[Session]:
    """Open a session with a device; it is tidied up and closed at the end.

    Args:
        device: which, and how.
        note: told what is worth a line: waiting for another host, connecting again.
        agent: another agent than this version's (for tests).

    Raises:
        DeviceFault: it cannot be reached, or cannot run the agent.
    """
    session = Session(device, agent or agent_archive(), note)
    session.open()
    _open.add(session)
    try:
        yield session
    finally:
        _open.discard(session)
        session.close()


def abort_sessions() -> None:
    """Stop what other threads do in their sessions."""
    for session in list(_open):
        session.abort()


def holder_text(facts: dict[str, Any], running: list[str]) -> str:
    """Who works on a device, for people."""
    who = f"{facts.get('user', 'somebody')}@{facts.get('host', 'another host')}"
    held = facts.get("held_s")
    since = f" for {held // 60} min {held % 60} s" if held is not None else ""
    doing = f", running {', '.join(running)}" if running else ""
    gone = "" if facts.get("connected", True) else "; its connection is gone, and what it started goes on"
    return f"{who} works there{since}{doing}{gone}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
