"""The agent's end of the protocol: one JSON object a line on stdin and stdout, raw bytes after a line that says so."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any, Iterator

PROTOCOL = 1
CHUNK = 1 << 18


class Gone(Exception):
    """The host closed the connection, or has been silent for too long."""


class Wire:
    """Reads requests, writes answers. Nothing else may use stdin and stdout.

    Args:
        silence_s: a host that says nothing for this long is taken for gone.
        wake_fd: a descriptor that becomes readable when `receive` should return early.
    """

    def __init__(self, silence_s: float, wake_fd: int) -> None:
        self._silence_s = silence_s
        self._wake_fd = wake_fd
        self._buffer = b""
        self._heard = time.monotonic()

    def send(self, **message: Any) -> None:
        """Write one answer."""
        self.send_bytes(json.dumps(message).encode() + b"\n")

    def send_bytes(self, content: bytes) -> None:
        """Write raw bytes."""
        view = memoryview(content)
        while view:
            try:
                view = view[os.write(1, view) :]
            except OSError as error:
                raise Gone from error

    def receive(self, wait_s: float) -> dict[str, Any] | None:
        """The next request; None after `wait_s`, or when woken.

        Raises:
            Gone: the host is.
        """
        while b"\n" not in self._buffer:
            ready = select.select([0, self._wake_fd], [], [], wait_s)[0]
            if 0 in ready:
                self._fill()
            elif self._wake_fd in ready:
                os.read(self._wake_fd, 512)
                return None
            elif time.monotonic() - self._heard > self._silence_s:
                raise Gone
            else:
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def receive_bytes(self, count: int) -> Iterator[bytes]:
        """Exactly `count` raw bytes, in pieces."""
        while count:
            if not self._buffer:
                if not select.select([0], [], [], self._silence_s)[0]:
                    raise Gone
                self._fill()
            piece, self._buffer = self._buffer[:count], self._buffer[count:]
            count -= len(piece)
            yield piece

    def _fill(self) -> None:
        try:
            content = os.read(0, CHUNK)
        except OSError as error:
            raise Gone from error
        if not content:
            raise Gone
        self._buffer += content
        self._heard = time.monotonic()
