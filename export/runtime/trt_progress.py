"""The builder's progress monitor as the package's progress callback."""

from __future__ import annotations

import threading
from typing import Any, Callable


def make_monitor(trt: Any, progress: Callable[[int, int, str], None]) -> Any:
    """An `IProgressMonitor` that counts the builder's top-level steps.

    Its `failure` is what `progress` raised, if it did: an exception must not travel through the library, so it is kept
    and the build cancelled. The object must live as long as the builder.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called from the builder's threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.failure: BaseException | None = None
            self._lock = threading.Lock()
            self._top: tuple[str, int] | None = None
            self._done = 0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                if parent is None and self._top is None:
                    self._top = (name, steps)
            self._report(name)

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                if self._top is not None and name == self._top[0]:
                    self._done = max(self._done, step + 1)
            self._report(name)
            return self.failure is None

        def phase_finish(self, name: str) -> None:
            with self._lock:
                if self._top is not None and name == self._top[0]:
                    self._done = self._top[1]
            self._report(name)

        def _report(self, note: str) -> None:
            try:
                progress(self._done, max(1, self._top[1] if self._top else 1), note)
            except BaseException as error:
                self.failure = self.failure or error

    return Monitor()
