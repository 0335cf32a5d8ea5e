"""A process on whose stdin and stdout the protocol is spoken, with a limit on every silence."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

CHUNK = 1 << 18
# What the other end may write on stderr, in bytes; the beginning and the end are kept for messages.
_MOST_ERRORS, _KEPT_ERRORS = 16 << 20, 32 << 10
# Pings in the time that the other end may be silent.
_PINGS = 4


class ConnectionLost(Exception):
    """The other end closed the connection, or has been silent for too long.

    Attributes:
        reason: for people.
        code: exit code of the process; None if it had not ended.
        errors: what it wrote on stderr.
    """

    def __init__(self, reason: str, code: int | None = None, errors: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.errors = errors


class TooMuch(Exception):
    """The other end says more, or for longer, than it may."""


@dataclass
class Bounds:
    """What the other end may still say until it has said what it is waited for.

    Attributes:
        line: bytes of one line.
        total: bytes of all lines; counted down.
        end: a monotonic time.
    """

    line: int
    total: int
    end: float

    def spend(self, count: int) -> None:
        """Count bytes that were received.

        Raises:
            TooMuch: they were too many, or came too late.
        """
        self.total -= count
        if self.total < 0:
            raise TooMuch("it sent too much")
        if time.monotonic() > self.end:
            raise TooMuch("it does not come to an end")


class Channel:
    """One connection. Messages are sent whole, also from several threads; one thread receives.

    Args:
        command: the process to start.
        silence_s: how long the other end may say nothing while it is waited for, and take nothing.
    """

    def __init__(self, command: Sequence[str], silence_s: float) -> None:
        self.silence_s = silence_s
        self.sent = 0
        """Bytes written."""
        self.received = 0
        """Bytes read."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours: the device must learn of it before the connection ends
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        assert self._process.stderr is not None
        self._errors = _Errors(self._process, self._process.stderr)
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._buffer = bytearray()
        self._searched = 0
        self._writing = threading.Lock()
        self._wrote = time.monotonic()
        self._pings = True
        self._closed = threading.Event()

    def keep_alive(self) -> None:
        """Ping from now on, so that both ends know that the other lives."""
        threading.Thread(target=self._ping, name="device-ping", daemon=True).start()

    def let_ping(self, wanted: bool) -> None:
        """Whether pings may be sent; once this has returned, none is on its way that may not."""
        with self._writing:
            self._pings = wanted

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message."""
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def send_bytes(self, content: bytes) -> None:
        """Send raw bytes; what they belong to was said before.

        Raises:
            ConnectionLost: the other end takes nothing, or is gone.
        """
        with self._writing:
            self._write(content)

    def receive_line(self, bounds: Bounds) -> bytes:
        """The next line, without its end.

        Raises:
            ConnectionLost: the other end is silent, or gone.
            TooMuch: it goes beyond the bounds.
        """
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > bounds.line:
                raise TooMuch("it sent a line without an end")
            if time.monotonic() > bounds.end:
                raise TooMuch("it does not come to an end")
            self._fill()
        bounds.spend(end + 1)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        if len(line) > bounds.line:
            raise TooMuch("it sent a line without an end")
        return line

    def receive_bytes(self, count: int) -> Iterator[bytes]:
        """Exactly `count` raw bytes, in pieces."""
        while count > 0:
            if not self._buffer:
                self._fill()
            piece = bytes(self._buffer[:count])
            del self._buffer[: len(piece)]
            self._searched = 0
            count -= len(piece)
            yield piece

    def close(self) -> None:
        """End the connection; the process ends by itself, or is ended."""
        self._closed.set()
        with self._writing, contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _wait(self, seconds: float) -> None:
        """Wait for the process's end. `Popen.wait` with a limit would look every 50 ms."""
        if self._process.poll() is None and hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                end = os.pidfd_open(self._process.pid)
                _ready(end, select.POLLIN, seconds)
                os.close(end)
                seconds = 0
        self._process.wait(seconds)

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            if self._closed.is_set():  # its descriptor may be another file's by now
                raise ConnectionLost("it is closed")
            if not _ready(self._in, select.POLLOUT, self.silence_s):
                raise self._lost(f"nothing was taken for {self.silence_s:g} s")
            try:
                written = os.write(self._in, view[:CHUNK])
            except BlockingIOError:
                continue
            except OSError:
                raise self._lost() from None
            view = view[written:]
            self.sent += written
            self._wrote = time.monotonic()

    def _fill(self) -> None:
        if not _ready(self._out, select.POLLIN, self.silence_s):
            raise self._lost(f"no answer for {self.silence_s:g} s")
        content = os.read(self._out, CHUNK)
        if not content:
            raise self._lost()
        self._buffer += content
        self.received += len(content)

    def _ping(self) -> None:
        pause = self.silence_s / _PINGS
        while not self._closed.wait(pause):
            try:
                with self._writing:
                    if self._pings and time.monotonic() - self._wrote >= pause:
                        self._write(b'{"op": "ping"}\n')
            except (ConnectionLost, ValueError):
                return  # who receives will notice

    def _lost(self, reason: str = "") -> ConnectionLost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._wait(0 if reason else 2)
        errors = self._errors.text(0.5 if self._process.returncode is not None else 0.0).strip()
        code = self._process.returncode
        last = errors.splitlines()[-1].strip() if errors else ""
        return ConnectionLost(reason or last or "the other end closed it", code, errors)


def _ready(descriptor: int, event: int, seconds: float) -> bool:
    """Wait for an event of `select.poll`; unlike `select.select`, this takes descriptors from 1024 on."""
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(1000 * seconds))


class _Errors:
    """What a process writes on stderr, read so that it never waits; the beginning and the end are kept."""

    def __init__(self, process: subprocess.Popen[bytes], stream: IO[bytes]) -> None:
        self._process, self._stream = process, stream
        self._first, self._last = bytearray(), bytearray()
        self._thread = threading.Thread(target=self._read, name="device-errors", daemon=True)
        self._thread.start()

    def text(self, wait_s: float) -> str:
        """What was kept. A helper of ssh may hold the stream open, so its end is not waited for longer than this."""
        self._thread.join(wait_s)
        return (bytes(self._first) + bytes(self._last)).decode("utf-8", "replace")

    def _read(self) -> None:
        total = 0
        with self._stream:
            while content := os.read(self._stream.fileno(), CHUNK):
                total += len(content)
                room = _KEPT_ERRORS - len(self._first)
                self._first += content[:room]
                self._last = (self._last + content[room:])[-_KEPT_ERRORS:]
                if total > _MOST_ERRORS:
                    self._process.kill()
                    return
