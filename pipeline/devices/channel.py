"""A process on whose stdin and stdout the protocol is spoken, with a limit on every silence."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

CHUNK = 1 << 18


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
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the channel)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is ours: the device must be told before the connection ends
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._buffer = b""
        self._writing = threading.Lock()
        self._wrote = time.monotonic()
        self._closed = threading.Event()

    def keep_alive(self) -> None:
        """Ping from now on, so that both ends know that the other lives."""
        threading.Thread(target=self._ping, name="device-ping", daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def send_bytes(self, content: bytes) -> None:
        """Send raw bytes; what they belong to was said before.

        Raises:
            ConnectionLost: the other end takes nothing, or is gone.
        """
        with self._writing:
            view = memoryview(content)
            while view:
                if self._closed.is_set():  # its descriptor may be another file's by now
                    raise ConnectionLost("it is closed")
                if not select.select([], [self._in], [], self.silence_s)[1]:
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

    def receive_line(self) -> bytes:
        """The next line, without its end.

        Raises:
            ConnectionLost: the other end is silent, or gone.
        """
        while b"\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def receive(self, end: float | None = None) -> dict[str, Any] | None:
        """The next message that is not a sign of life only; None if there was none until `end` (monotonic time)."""
        while True:
            line = self.receive_line()
            try:
                message = json.loads(line)
            except ValueError:
                raise self._lost(f"it said something that is not of the protocol: {line[:80]!r}") from None
            if isinstance(message, dict) and message.get("type") != "pong":
                return message
            if end is not None and time.monotonic() > end:
                return None

    def receive_bytes(self, count: int) -> Iterator[bytes]:
        """Exactly `count` raw bytes, in pieces."""
        while count:
            if not self._buffer:
                self._fill()
            piece, self._buffer = self._buffer[:count], self._buffer[count:]
            count -= len(piece)
            yield piece

    def close(self) -> None:
        """End the connection; the process ends by itself, or is ended."""
        self._closed.set()
        with self._writing, contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _fill(self) -> None:
        if not select.select([self._out], [], [], self.silence_s)[0]:
            raise self._lost(f"no answer for {self.silence_s:g} s")
        content = os.read(self._out, CHUNK)
        if not content:
            raise self._lost()
        self._buffer += content
        self.received += len(content)

    def _ping(self) -> None:
        pause = self.silence_s / 4
        while not self._closed.wait(pause):
            if time.monotonic() - self._wrote < pause:
                continue
            try:
                self.send({"op": "ping"})
            except (ConnectionLost, ValueError):
                return  # who receives will notice

    def _lost(self, reason: str = "") -> ConnectionLost:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if reason else 2)
        self._errors.seek(0)
        errors = self._errors.read().decode("utf-8", "replace").strip()
        code = self._process.returncode
        last = errors.splitlines()[-1].strip() if errors else ""
        return ConnectionLost(reason or last or "the other end closed it", code, errors)
