"""The one thread that runs the engine: one call after the other, in the order in which they came."""

from __future__ import annotations

import queue
import threading
import time
from typing import Callable, Optional

Task = Callable[[], None]
"""It must not raise."""


class Worker:
    """A thread. Who hands over tasks bounds how many wait."""

    def __init__(self, name: str) -> None:
        self._tasks: "queue.SimpleQueue[Optional[Task]]" = queue.SimpleQueue()
        self._since: Optional[float] = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, task: Task) -> None:
        """Run it after what was handed over before."""
        self._tasks.put(task)

    def busy_s(self) -> float:
        """For how long it has been at its task; 0 where it has none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def close(self, timeout_s: float) -> bool:
        """End after what was handed over; whether it ended in time."""
        self._tasks.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            self._since = time.monotonic()
            task()
            self._since = None
            del task  # what it holds is not kept while the next one is waited for
