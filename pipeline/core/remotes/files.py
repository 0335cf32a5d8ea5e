"""What every kind of remote offers: whole files by name, within bounds of bytes and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol, TypeVar

T = TypeVar("T")


class RemoteFault(Exception):
    """A remote that does not do what it is asked: what happened, in one line."""


class TooLarge(RemoteFault):
    """A file has more bytes than it may have: the file is at fault, not the remote."""


@dataclass(frozen=True)
class Wanted:
    """A file of a remote: its name there, its size in bytes, and its name in a local folder."""

    name: str
    bytes: int
    local: str


class Files(Protocol):
    """A remote. Names are relative, of the characters a-z, A-Z, 0-9 and `._-/`.

    Every method raises RemoteFault where the remote fails, and OSError where the local disk does.
    """

    @property
    def title(self) -> str:
        """What messages call it."""
        ...

    def read(self, name: str, most: int) -> bytes | None:
        """The content of a file of at most `most` bytes (else TooLarge); None if there is none."""
        ...

    def fetch(self, wanted: Sequence[Wanted], folder: Path, until: float) -> None:
        """Copy files into a local folder.

        Args:
            wanted: the files; one that is larger than it should be is a fault.
            folder: exists.
            until: when to give up, by `time.monotonic`.
        """
        ...

    def lacking(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Those that are not there or have another size."""
        ...

    def put(self, files: Sequence[tuple[Path, str]], until: float) -> None:
        """Write local files under names, each whole or not at all, in this order; what is there is replaced."""
        ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a file if there is none; whether that was so."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; nothing if there is none."""
        ...


def within(seconds: float, work: Callable[[], T]) -> T:
    """The result of `work`, which is left alone (in a daemon thread) if it takes longer: nothing can end a hung mount.

    Raises:
        RemoteFault: it takes longer.
        Exception: whatever `work` raises.
    """
    results: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:
            results.put((None, error))

    Thread(target=run, daemon=True, name="remote").start()
    try:
        result, error = results.get(timeout=max(seconds, 0.01))
    except Empty:
        raise RemoteFault(f"did not answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
