"""Raw bytes of files over a conversation: sent from an offset, or received after what is there already."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.devices.channel import CHUNK, ConnectionLost, TooMuch
from pipeline.devices.conversation import Conversation
from pipeline.devices.messages import FileSize, Ok, Sent, Unfit

Amount = Callable[[int, int], None]
"""Called with the bytes that are there, and all."""

# A connection got somewhere if it moved so many bytes, or lasted so long (s).
_FAR, _LONG_S = 1 << 20, 60.0
# Bytes move at least at this rate (bytes/s), after a start.
_SLOWEST, _START_S = 10_000, 120.0


@dataclass
class Moved:
    """How far a connection got before it was cut."""

    bytes: int = 0
    began: float = field(default_factory=time.monotonic)

    def by(self, count: int) -> None:
        """Count bytes that were sent or received."""
        self.bytes += count

    @property
    def far(self) -> bool:
        """Whether it got somewhere, so that another one may as well."""
        return self.bytes >= _FAR or (self.bytes > 0 and time.monotonic() - self.began > _LONG_S)


class _Pace:
    """Refuses a transfer that would never end."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def check(self, moved: int) -> None:
        if time.monotonic() > self._began + _START_S + moved / _SLOWEST:
            raise TooMuch(f"fewer than {_SLOWEST // 1000} kB move in a second")


def send(
    conversation: Conversation, path: Path, offset: int, size: int, progress: Amount, moved: Moved
) -> None:
    """Send the bytes of a file from `offset` to `size`, which the other end waits for.

    Raises:
        ConnectionLost: the other end is gone, or the file shrank.
        Unfit, TooMuch: it takes next to nothing, or answers what does not fit.
    """
    pace = _Pace()
    progress(offset, size)
    with path.open("rb") as file, conversation.raw():
        file.seek(offset)
        while (left := size - file.tell()) > 0:
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise ConnectionLost(f"{path} shrank while it was sent")
            conversation.stop_if_aborted()
            conversation.channel.send_bytes(piece)
            moved.by(len(piece))
            pace.check(file.tell() - offset)
            progress(file.tell(), size)
    conversation.answer(Ok)


def receive(conversation: Conversation, job: str, name: str, part: Path, at_most: int, moved: Moved) -> str:
    """Append what is missing of a job's file to `part`.

    Returns:
        sha256 (hex) of the whole file, as the other end says.

    Raises:
        ConnectionLost: the other end is gone.
        Unfit, TooMuch: the file is too large, or comes too slowly.
        JobFailed: there is no such file.
    """
    offset = part.stat().st_size if part.exists() else 0
    size = conversation.ask("fetch", FileSize, job=job, name=name, offset=offset).size
    if not offset <= size <= at_most:
        raise Unfit(f"size: {size} bytes, where {offset} to {at_most} are possible")
    pace = _Pace()
    with part.open("ab") as file, conversation.raw():
        for piece in conversation.channel.receive_bytes(size - offset):
            file.write(piece)
            conversation.stop_if_aborted()
            moved.by(len(piece))
            pace.check(file.tell() - offset)
    return conversation.answer(Sent).sha256
