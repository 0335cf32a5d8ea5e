"""Timing one query after the other with CUDA events, in trtexec's terms.

`compute` is the GPU's time between just before and just after the engine's work; `h2d` and `d2h` are those of the
copies; `latency` is their sum; `enqueue` is the host's time for the launch.
"""

from __future__ import annotations

import time
from typing import Dict

from .cudart import Cuda, Event, Stream
from .trt_lane import Launch, Slot

Times = Dict[str, float]


class Resident:
    """Boundary `engine`: input and output stay on the GPU, one query at a time."""

    def __init__(self, cuda: Cuda, stream: Stream, launch: Launch) -> None:
        self._stream, self._launch = stream, launch
        self._begin, self._end = Event(cuda), Event(cuda)

    def __call__(self) -> Times:
        """Run one query; milliseconds by name."""
        self._begin.record(self._stream)
        start = time.perf_counter_ns()
        self._launch()
        enqueue = (time.perf_counter_ns() - start) / 1e6
        self._end.record(self._stream)
        self._end.synchronize()
        compute = self._end.since(self._begin)
        return {"latency": compute, "compute": compute, "enqueue": enqueue}

    def close(self) -> None:
        """Destroy the events."""
        self._begin.close()
        self._end.close()


class Copying:
    """Boundary `engine+copies`: from and to pinned host memory, one query at a time, as one camera is served.

    trtexec does the same with `--exposeDMA`; by default it lets the copies of one query overlap the compute of another.
    """

    def __init__(self, cuda: Cuda, stream: Stream, slot: Slot, launch: Launch) -> None:
        self._stream, self._slot, self._launch = stream, slot, launch
        self._up, self._begin, self._end, self._landed = (Event(cuda) for _ in range(4))

    def __call__(self) -> Times:
        """Run one query; milliseconds by name."""
        self._up.record(self._stream)
        self._slot.source.upload(self._stream.handle)
        self._begin.record(self._stream)
        start = time.perf_counter_ns()
        self._launch()
        enqueue = (time.perf_counter_ns() - start) / 1e6
        self._end.record(self._stream)
        self._slot.target.download(self._stream.handle)
        self._landed.record(self._stream)
        self._landed.synchronize()
        h2d, compute = self._begin.since(self._up), self._end.since(self._begin)
        d2h = self._landed.since(self._end)
        return {
            "latency": h2d + compute + d2h,
            "h2d": h2d,
            "compute": compute,
            "d2h": d2h,
            "enqueue": enqueue,
        }

    def close(self) -> None:
        """Destroy the events."""
        for event in (self._up, self._begin, self._end, self._landed):
            event.close()
