"""What a training says of itself: a record an epoch, as JSON lines and for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from figkd.distributed import World
from figkd.events import EventFile
from figkd.files import write_bytes

Record = dict[str, Any]
"""See the result of `figkd.train.train`."""


class Records:
    """The files that records go to; only rank 0 has any."""

    def __init__(self, log: Path | None, events: Path | None, history: list[Record], world: World) -> None:
        self._lines: list[str] = []
        self._log = log if world.first else None
        self._events = EventFile(events) if events is not None and world.first else None
        for record in history:
            self.add(record)

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()

    def add(self, record: Record) -> None:
        """Write one more record."""
        self._lines.append(json.dumps(record) + "\n")
        if self._log is not None:
            write_bytes(self._log, "".join(self._lines).encode())
        if self._events is not None:
            self._events.add(record)
