"""Training curves for TensorBoard: the records of the JSON log as an event file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.errors import TrainingError

EVENTS = "events.out.tfevents.figkd"
"""Name of the event file; a fixed one, so that a resumed run writes the same file."""


class EventFile:
    """An event file that grows by a record an epoch; values that are None are left out.

    Args:
        path: its name should be EVENTS, in a folder of its own training.

    Raises:
        TrainingError: the tensorboard package is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise TrainingError(
                "tensorboard: true needs the package tensorboard, which is not installed",
                "pip install 'figkd-pipeline[tensorboard]', or set it to false",
            ) from error
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        path.parent.mkdir(parents=True, exist_ok=True)
        # Appended to, not replaced: TensorBoard follows an open file.
        self._file = path.open("wb")
        self._writer = RecordWriter(self._file)
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of a record of `figkd.train.train`, nested ones as `timing/seconds`."""
        flat = {name: value for name, value in record.items() if not isinstance(value, dict)}
        for outer, inner in record.items():
            if isinstance(inner, dict):
                flat |= {f"{outer}/{name}": value for name, value in inner.items()}
        step = flat.pop("epoch")
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in flat.items()
            if value is not None
        ]
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        self._file.flush()
