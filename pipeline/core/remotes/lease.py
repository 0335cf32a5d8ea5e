"""Who makes an artifact that several machines want: a lease at the remote, which expires unless its holder renews it.

    leases/<step>.<key>.json    {"owner": random, "beat": a number that grows while the holder works}

Nobody's clock is trusted: a lease has expired when an observer has seen the same beat for `EXPIRES_S` of its own
time. A lease only saves work. If two hold one (an expired lease that two take over at the same instant, a remote
without atomic creation), the artifact is made twice and the first one pushed counts.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.remotes.files import Files, RemoteFault

BEAT_S = 15.0
EXPIRES_S = 75.0
POLL_S = 3.0
_MOST_BYTES = 10_000


@dataclass(frozen=True)
class Pace:
    """How often a lease is renewed and looked at, and how long one may go without renewal, in s."""

    beat_s: float = BEAT_S
    expires_s: float = EXPIRES_S
    poll_s: float = POLL_S


PACE = Pace()


class Lease:
    """A lease that this process holds; it is renewed in a thread until `release`."""

    def __init__(self, files: Files, name: str, owner: str, pace: Pace) -> None:
        self._files, self._name, self._owner, self._pace = files, name, owner, pace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def release(self) -> None:
        """Give it up, unless another took it over."""
        self._ended.set()
        self._thread.join(self._pace.beat_s)
        try:
            if self._is_mine():
                self._files.remove(self._name)
        except (RemoteFault, OSError):
            pass  # it expires

    def _is_mine(self) -> bool:
        return _owner(self._files.read(self._name, _MOST_BYTES)) == self._owner

    def _renew(self) -> None:
        beat = 0
        while not self._ended.wait(self._pace.beat_s):
            beat += 1
            try:
                if not self._is_mine():
                    return
                with tempfile.NamedTemporaryFile(prefix="figkd-lease-") as file:
                    file.write(_content(self._owner, beat))
                    file.flush()
                    self._files.put([(Path(file.name), self._name)], time.monotonic() + self._pace.expires_s)
            except (RemoteFault, OSError):
                continue  # it may come back before the lease expires


class Watch:
    """Looks at another's lease until it is gone or has expired."""

    def __init__(
        self, files: Files, name: str, pace: Pace, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files, self._name, self._pace, self._clock = files, name, pace, clock
        self._seen: bytes | None = None
        self._since = clock()

    def over(self) -> bool:
        """Whether nobody holds the lease any more; an expired one is removed."""
        content = self._files.read(self._name, _MOST_BYTES)
        if content is None:
            return True
        if content != self._seen:
            self._seen, self._since = content, self._clock()
            return False
        if self._clock() - self._since < self._pace.expires_s:
            return False
        if self._files.read(self._name, _MOST_BYTES) == content:
            self._files.remove(self._name)
        return True


def take(files: Files, name: str, pace: Pace) -> Lease | None:
    """The lease of a name; None if another holds it."""
    owner = secrets.token_hex(8)
    return Lease(files, name, owner, pace) if files.create(name, _content(owner, 0)) else None


def _content(owner: str, beat: int) -> bytes:
    return json.dumps({"owner": owner, "beat": beat}).encode()


def _owner(content: bytes | None) -> str:
    try:
        found = json.loads(content or b"")
    except ValueError:
        return ""
    return str(found.get("owner", "")) if isinstance(found, dict) else ""
