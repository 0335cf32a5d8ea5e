"""Questions to an agent and its answers, over one connection, within bounds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from pipeline.devices.channel import Bounds, Channel
from pipeline.devices.faults import JobFailed
from pipeline.devices.messages import Busy, Error, Head, read

A = TypeVar("A", bound=BaseModel)

AGAIN = "run again: what was done is kept, and it goes on from there"
# An answer comes within this time (s), and with all that is said before it has at most so many bytes.
ANSWER_S = 600.0
_ANSWER_BYTES = 16 << 20


class Conversation:
    """Asks over a channel.

    Args:
        channel: an agent is at its other end.
        name: of the device.
        aborted: set from another thread to end the wait for an answer with KeyboardInterrupt.
    """

    def __init__(self, channel: Channel, name: str, aborted: threading.Event) -> None:
        self.channel = channel
        self._name = name
        self._aborted = aborted
        self.broken = False
        """Raw bytes did not go to their end: it is of no use any more."""
        self._number = 0

    def stop_if_aborted(self) -> None:
        """Between the parts of something long.

        Raises:
            KeyboardInterrupt: another thread wants it to stop.
        """
        if self._aborted.is_set():
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No ping in this block: after what announces raw bytes it would be taken for some of them."""
        self.channel.let_ping(False)
        try:
            yield
        finally:
            if not self.broken:
                self.channel.let_ping(True)

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Send or receive raw bytes in this block."""
        self.broken = True
        yield
        self.broken = False

    def ask(self, operation: str, answer: type[A], **words: Any) -> A:
        """Ask, and wait for the answer.

        Raises:
            ConnectionLost: nobody is there any more.
            Unfit, TooMuch: the answer is refused.
            JobFailed: it says that it cannot.
        """
        self.say(operation, **words)
        return self.answer(answer)

    def ask_or_busy(self, operation: str, answer: type[A], **words: Any) -> A | Busy:
        """As `ask`, where another host may be at work."""
        self.say(operation, **words)
        kind, line = self.next(_bounds())
        return read(Busy, line) if kind == "busy" else read(answer, line)

    def answer(self, answer: type[A]) -> A:
        """The next answer to what was asked last."""
        return read(answer, self.next(_bounds())[1])

    def say(self, operation: str, **words: Any) -> None:
        """Ask, without waiting."""
        self._number += 1
        self.channel.send({"op": operation, "id": self._number, **words})

    def next(self, bounds: Bounds) -> tuple[str, bytes]:
        """Type and text of the next answer to what was asked last.

        Signs of life, and what belongs to an earlier question, are passed over.
        """
        while True:
            line = self.channel.receive_line(bounds)
            self.stop_if_aborted()
            head = read(Head, line)
            if head.re != self._number:
                continue
            if head.type == "error":
                error = read(Error, line)
                raise JobFailed(f"{self._name}: {error.what}", fix=error.fix or AGAIN, kind=error.kind)
            return head.type, line


def _bounds() -> Bounds:
    return Bounds(_ANSWER_BYTES, _ANSWER_BYTES, time.monotonic() + ANSWER_S)
