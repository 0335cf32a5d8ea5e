"""A session with a device: files go there by digest, jobs run there, what they made comes back.

A connection that is cut is made again a few times: uploads go on at the byte they stopped at, detached jobs are
found again, attached ones are started again. What cannot be repaired is one `DeviceFault`.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import itertools
import json
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from export.runtime.files import sha256
from pipeline.core.address import Device
from pipeline.core.errors import DeviceFault
from pipeline.devices.archive import Archive, agent_archive
from pipeline.devices.channel import ConnectionLost, TooMuch
from pipeline.devices.conversation import AGAIN, Conversation
from pipeline.devices.facts import FACTS, Facts
from pipeline.devices.faults import Distrusted, JobFailed, connection_fault, fault, job_failed, unfit
from pipeline.devices.greeting import greet, start
from pipeline.devices.job_run import Done, Events, JobRun, Tie, attend
from pipeline.devices.messages import (
    Busy,
    Failure,
    Go,
    Have,
    Hello,
    Introduced,
    Inventory,
    Job,
    Ok,
    Removed,
    Started,
    Unfit,
)
from pipeline.devices.sharing import stop_sharing
from pipeline.devices.transfer import Amount, Moved, receive, send

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)
R = TypeVar("R")

# Pauses before connecting again, in s; after the last one the device counts as lost.
RETRY_PAUSES_S = (0.5, 2.0, 5.0, 10.0)
# Connections that one piece of work may take, however far each of them gets.
MOST_CONNECTIONS = 100
# A device looks at itself within this time, in s.
FACTS_S = 300.0
# What an answer that nobody depends on may end with.
_ENDED = (ConnectionLost, DeviceFault, Unfit, TooMuch)

_open: set[Session] = set()


class Session:
    """An open session; use `connect`."""

    def __init__(self, device: Device, agent: Archive, note: Callable[[str], None]) -> None:
        self.device = device
        self._hello: Hello | None = None
        self.latency_s = 0.0
        """How long a question and its answer take, in s."""
        self.skew_s = 0.0
        """The device's clock minus this one's, in s."""
        self._agent = agent
        self._note = note
        self._owner = {"session": secrets.token_hex(8), "host": platform.node(), "user": _user()}
        self._conversation: Conversation | None = None
        self._moved = [0, 0]
        self._job = ""
        self._worked = False
        self._aborted = threading.Event()

    @property
    def hello(self) -> Hello:
        """What the agent said of itself and the device."""
        assert self._hello is not None  # `connect` opened the session
        return self._hello

    @property
    def sent(self) -> int:
        """Bytes sent so far, the protocol's own included."""
        return self._moved[0] + (self._conversation.channel.sent if self._conversation else 0)

    @property
    def received(self) -> int:
        """Bytes received so far."""
        return self._moved[1] + (self._conversation.channel.received if self._conversation else 0)

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
        job: Job[R],
        request: Mapping[str, Any],
        progress: Events = lambda event: None,
        *,
        detached: bool = False,
        shared: bool = False,
        limit_s: float | None = None,
    ) -> Done[R]:
        """Run a job and wait for it.

        Args:
            job: one of the agent's jobs.
            request: what it gets, plain JSON.
            progress: called with every event that the job emits.
            detached: it outlives this session, and a later one with the same request finds it, running or
                finished. Its folder stays until `release`.
            shared: it needs the device neither for itself nor quiet, such as a look at its facts.
            limit_s: give up (and end it) after so long, in s; the device's `job_s` if None.

        Raises:
            JobFailed: the job said what went wrong.
            DeviceFault: the device is lost or busy, or says what does not fit.
        """
        self._worked = self._worked or not shared
        tie: Tie = "detached" if detached else "shared" if shared else "attached"
        run = JobRun(
            self._job_name(job.name, request),
            job,
            request,
            tie,
            progress,
            time.monotonic() + (self.device.job_s if limit_s is None else limit_s),
        )
        self._job = run.name
        try:
            return self._persist(f"the job '{job.name}'", lambda moved: self._run(run, moved))
        except KeyboardInterrupt:
            with self.calm():
                self._forget(self._job)
            raise
        finally:
            self._job = ""

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """In this block an aborted session can be used again, to tidy up; another `abort` ends that too."""
        aborted = self._aborted.is_set()
        self._aborted.clear()
        try:
            yield
        finally:
            if aborted:
                self._aborted.set()

    def facts(self) -> Facts:
        """What the device says of itself."""
        return self.run(FACTS, {}, shared=True, limit_s=FACTS_S).result

    def fetch(self, job: str, name: str, destination: Path, at_most: int) -> Path:
        """Copy an output file of a job here, whole or not at all.

        Args:
            job: `Done.job`.
            name: path relative to the job's folder; ours, never one from the device.
            destination: the file to write.
            at_most: bytes that it may have.

        Raises:
            DeviceFault: the device is lost, has no such file, or one that is too large.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = destination.with_name(f".{destination.name}.part")
        part.unlink(missing_ok=True)
        try:
            self._persist(f"fetching {name}", lambda moved: self._fetch(job, name, part, at_most, moved))
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
        return destination

    def release(self, job: str) -> None:
        """Remove a job's folder there: everything that is wanted of it was fetched."""
        self._persist("tidying up", lambda moved: self._ask("release", Ok, job=job))

    def inventory(self) -> Inventory:
        """What lies in the work folder."""
        return self._persist("looking around", lambda moved: self._ask("list", Inventory))

    def clean(self, *, force: bool = False) -> Removed:
        """Remove everything there that is the agent's, and end the session.

        Args:
            force: also end what another host runs there.
        """
        answer = self._persist("cleaning", lambda moved: self._exclusive("clean", Removed, force=force))
        self._drop()
        return answer

    def close(self) -> None:
        """Tidy up there, within the device's limit, and end the session."""
        if self._conversation is not None and not self._aborted.is_set():
            with contextlib.suppress(*_ENDED):
                self._ask("close", Removed, keep=self.device.keep_mb * 10**6)
        self._drop()
        if self._worked:
            self._note(
                f"{self.device.name}: {self.sent / 1e6:.2f} MB sent, {self.received / 1e6:.2f} MB received"
            )

    def abort(self) -> None:
        """From another thread: end the job that runs, and make the session's own thread stop with KeyboardInterrupt."""
        self._aborted.set()
        conversation = self._conversation
        if (
            conversation is not None and not conversation.broken
        ):  # between the bytes of a file, words would be taken for it
            with contextlib.suppress(ConnectionLost, ValueError):
                conversation.channel.send({"op": "cancel", "job": self._job} if self._job else {"op": "list"})

    def open(self) -> None:
        """Connect. Done by `connect`.

        Raises:
            DeviceFault: it cannot be reached, or cannot run the agent.
        """
        channel = start(self.device)
        try:
            self._hello = greet(channel, self.device, self._agent)
            self._conversation = Conversation(channel, self.device.name, self._aborted)
            asked = time.monotonic()
            now = self._ask("introduce", Introduced, owner=self._owner).time
            self.latency_s = time.monotonic() - asked
            self.skew_s = now - (time.time() - self.latency_s / 2)
        except BaseException as error:
            self._conversation = None
            channel.close()
            if isinstance(error, ConnectionLost):
                raise connection_fault(self.device, error) from None
            if isinstance(error, Unfit | TooMuch):
                raise unfit(self.device, "its greeting", error) from None
            raise
        channel.keep_alive()

    def _persist(self, doing: str, action: Callable[[Moved], T]) -> T:
        """Do something; if the connection is lost, connect and do it again, a few times without any progress."""
        failures, reported = 0, ""
        for connections in itertools.count(1):
            if self._aborted.is_set():
                raise KeyboardInterrupt
            moved = Moved()
            try:
                if self._conversation is None:
                    self.open()
                return action(moved)
            except (Unfit, TooMuch) as error:
                self._drop()
                raise unfit(self.device, f"{doing}, its answer", error) from None
            except ConnectionLost as lost:
                self._drop(hang=True)
                failures = 1 if moved.far and connections < MOST_CONNECTIONS else failures + 1
                reason = lost.reason
            except JobFailed:
                raise
            except DeviceFault as error:
                if failures == 0 or self._conversation is not None or isinstance(error, Distrusted):
                    raise
                failures += 1
                reason = error.what.partition(": ")[2]
            finally:
                if self._conversation is not None and self._conversation.broken:
                    self._drop()
            if failures > len(RETRY_PAUSES_S):
                what = f"the connection was lost in {doing}, and could not be made again: {reason}"
                raise fault(self.device, what, f"once it can be reached, {AGAIN}")
            if reason != reported:
                self._note(
                    f"{self.device.name}: the connection was lost in {doing} ({reason}); connecting again"
                )
                reported = reason
            time.sleep(RETRY_PAUSES_S[failures - 1])
        raise AssertionError("the loop ends by itself")

    def _drop(self, *, hang: bool = False) -> None:
        if self._conversation is not None:
            self._moved = [self.sent, self.received]
            channel, self._conversation = self._conversation.channel, None
            if hang:
                stop_sharing(self.device)
            channel.close()

    def _put(self, path: Path, digest: str, size: int, progress: Amount, moved: Moved) -> None:
        known = self._ask("have", Have, digest=digest)
        if known.have:
            progress(size, size)
            return
        offset = known.partial if known.partial <= size else 0
        conversation = self._connected()
        with conversation.undisturbed():
            self._exclusive("put", Go, digest=digest, size=size, offset=offset)
            send(conversation, path, offset, size, progress, moved)

    def _run(self, run: JobRun[R], moved: Moved) -> Done[R]:
        job = run.job.name
        if run.tie != "detached":
            # Another name for another attempt: the agent that was left behind may still be ending the last one.
            run.name = self._job = self._job_name(job, run.request, unique=True)
            if run.starts:
                self._note(f"{self.device.name}: the job '{job}' is started again")
        started = self._exclusive("start", Started, job=run.name, name=job, request=run.request, tie=run.tie)
        if started.state == "started":
            run.offset = 0
            if run.starts and run.tie == "detached":
                # It was there, and now it is not: running it again by ourselves might only do the same again.
                self._forget(run.name)
                gone = Failure(ok=False, what="the job is gone", fix=AGAIN)
                raise job_failed(self.device, started.lost or gone)
            if started.lost:
                self._note(f"{self.device.name}: an earlier attempt was lost: {started.lost.what}")
        elif not run.starts:
            run.found = True
        run.starts += 1
        conversation = self._connected()
        conversation.say("attach", job=run.name, offset=run.offset)
        outcome = attend(conversation, run, moved)
        if isinstance(outcome, Failure):
            self._forget(run.name)
            raise job_failed(self.device, outcome)
        return Done(run.name, outcome.result, outcome.seconds, run.found)

    def _fetch(self, job: str, name: str, part: Path, at_most: int, moved: Moved) -> None:
        wanted = receive(self._connected(), job, name, part, at_most, moved)
        if sha256(part) != wanted:
            raise fault(self.device, f"{name} came with other contents than it was sent with", "run again")

    def _exclusive(self, operation: str, answer: type[A], **words: Any) -> A:
        """Ask for something that needs the device's lock; wait while another host has it."""
        end = time.monotonic() + self.device.wait_s
        noted = False
        while isinstance(found := self._connected().ask_or_busy(operation, answer, **words), Busy):
            who = found.holder.words(found.running)
            if time.monotonic() > end:
                fix = (
                    "run again when it is done, raise the target's remote.wait_s, or, if nobody is there, "
                    f"figkd-pipeline device clean {self.device.url} --force"
                )
                raise fault(self.device, f"busy: {who}; waited {self.device.wait_s:g} s", fix)
            if not noted:
                self._note(f"{self.device.name}: busy: {who}; waiting up to {self.device.wait_s:g} s")
                noted = True
            time.sleep(0.5)
        return found

    def _ask(self, operation: str, answer: type[A], **words: Any) -> A:
        return self._connected().ask(operation, answer, **words)

    def _connected(self) -> Conversation:
        if self._conversation is None:
            raise ConnectionLost("it is closed")
        return self._conversation

    def _forget(self, job: str) -> None:
        with contextlib.suppress(*_ENDED):
            self._ask("cancel", Ok, job=job)

    def _job_name(self, job: str, request: Mapping[str, Any], *, unique: bool = False) -> str:
        key = json.dumps([self._agent.digest, job, request], sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return f"{job}-{secrets.token_hex(8) if unique else digest}"


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
    _open.add(session)  # so that it can be aborted while it connects
    try:
        session.open()
        yield session
    finally:
        _open.discard(session)
        session.close()


def abort_sessions() -> None:
    """Stop what other threads do in their sessions."""
    for session in list(_open):
        session.abort()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
