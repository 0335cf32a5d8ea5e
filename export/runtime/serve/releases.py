"""What an install lets serve is taken up between two requests, and how it goes is written where the install looks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional

from ..bundle.errors import BundleError
from ..install.choice import bundle_to_serve, chosen_id
from ..install.health import Heartbeat, beat

if TYPE_CHECKING:
    from ..install.site import Site
    from .served import Served

POLL_S = 0.5
BEAT_S = 1.0
OUTPUTS_S = 60.0
"""Between two times that what was counted of the answers is written."""
RETRY_S = 30.0
"""After which a release that could not be loaded is tried again."""

Open = Callable[[str], "Served"]
"""Folder of a bundle to what serves; raises BundleError."""


@dataclass(frozen=True)
class Counts:
    """Of the release that serves, see `Heartbeat`."""

    release: str
    requests: int
    errors: int
    p99_ms: Optional[float]
    is_stuck: bool = False
    """Whether the engine does not come back: no heartbeat is written then, and an install takes the release back."""


class Follower:
    """Two threads: one loads what is to serve, one writes heartbeats, also while a release is loaded."""

    def __init__(
        self,
        site: Site,
        name: str,
        open_release: Open,
        swap: Callable[[Served], None],
        refuse: Callable[[], None],
        counts: Callable[[], Counts],
        say: Callable[[str], None],
        keep_outputs: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            site: the releases.
            name: of this runtime among others.
            open_release: verifies and loads a bundle.
            swap: lets it serve; called in the follower's thread.
            refuse: counts one that could not be loaded; called in the follower's thread.
            counts: how the release that serves goes.
            say: one line for people.
            keep_outputs: writes what was counted of the answers; raises OSError.
        """
        self._keep_outputs, self._outputs_at = keep_outputs, 0.0
        self._site, self._name, self._open, self._swap = site, name, open_release, swap
        self._refuse, self._counts, self._say = refuse, counts, say
        self._stopped = threading.Event()
        self._serves = self._refused = self._reason = ""
        self._retry_at = 0.0
        self._is_beating = True
        self._threads = [
            threading.Thread(target=self._follow, name="releases", daemon=True),
            threading.Thread(target=self._beat_on, name="heartbeat", daemon=True),
        ]

    def first(self) -> Optional[Served]:
        """What is to serve at the start; None where no release is fit to.

        A release that fails to load is left to the follower, which tries it again.
        """
        folder = bundle_to_serve(self._site)
        wanted = chosen_id(self._site) or ""
        if folder is None:
            self._say("no release here is fit to serve: 503 until one is installed")
            return None
        return self._load(folder, wanted)

    def start(self) -> None:
        """Follow."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads; a release that is being loaded is not waited for."""
        self._stopped.set()
        self._threads[1].join(2 * BEAT_S)
        self._outputs_at = 0.0
        self._write_outputs()

    def _follow(self) -> None:
        while not self._stopped.wait(POLL_S):
            try:
                self.look()
            except Exception as error:  # a disk that fails ends nothing: what serves goes on
                if not self._stopped.is_set():
                    self._say("error: releases cannot be read: %s" % error)

    def look(self) -> None:
        """Take up what is to serve, if it does not serve yet."""
        wanted = chosen_id(self._site)
        if wanted is None or wanted == self._serves:
            if wanted:
                self._refused = self._reason = ""
            return
        folder: Optional[str] = self._site.bundle(wanted)
        if wanted == self._refused:
            if self._site.machine.now() < self._retry_at:
                return
            if not self._serves:  # the recovery may find another one
                folder = bundle_to_serve(self._site)
                wanted = chosen_id(self._site) or ""
        served = self._load(folder, wanted) if folder and wanted else None
        if served is not None:
            self._swap(served)

    def _load(self, folder: str, wanted: str) -> Optional[Served]:
        try:
            served = self._open(folder)
        except (BundleError, OSError, MemoryError) as error:
            reason = error.what if isinstance(error, BundleError) else str(error) or type(error).__name__
            self._refused, self._reason = wanted, reason
            self._refuse()
            self._retry_at = self._site.machine.now() + RETRY_S
            stays = "release %s goes on" % self._serves[:12] if self._serves else "nothing serves"
            self._say("error: release %s cannot be loaded: %s; %s" % (wanted[:12], reason, stays))
            return None
        self._serves, self._refused, self._reason = served.release, "", ""
        self._say("serves release %s, %s" % (served.release[:12], served.signature.name))
        return served

    def _beat_on(self) -> None:
        while True:
            try:
                self.beat()
                self._is_beating = True
            except OSError as error:
                if self._is_beating:
                    self._say("warning: no heartbeat can be written: %s" % error)
                self._is_beating = False
            self._write_outputs()
            if self._stopped.wait(BEAT_S):
                return

    def _write_outputs(self) -> None:
        now = self._site.machine.now()
        if now < self._outputs_at:
            return
        self._outputs_at = now + OUTPUTS_S
        try:
            self._keep_outputs()
        except OSError as error:  # statistics stop nothing
            self._say("warning: counts of answers cannot be written: %s" % error)

    def beat(self) -> None:
        """Say how it goes.

        Raises:
            OSError: it cannot be written.
        """
        machine, counts = self._site.machine, self._counts()
        if counts.is_stuck:
            return
        beat(
            self._site.root,
            Heartbeat(
                self._name,
                counts.release,
                machine.boot_id,
                machine.now(),
                counts.requests,
                counts.errors,
                counts.p99_ms,
                self._refused,
                self._reason,
            ),
        )
