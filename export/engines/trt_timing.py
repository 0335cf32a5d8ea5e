"""Timing one query after the other with CUDA events, in trtexec's terms.

`compute` is the GPU's time between just before and just after the engine's work; `h2d` and `d2h` are those of the
copies; `latency` is their sum, which leaves out waiting between streams; `enqueue` is the host's time for the launch.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from export.engines import cuda
from export.engines.trt_lane import Launch, Slot

Times = dict[str, float]


class Resident:
    """Boundary `engine`: input and output stay on the GPU, one query at a time."""

    def __init__(self, stream: cuda.Stream, launch: Launch) -> None:
        self._stream, self._launch = stream, launch
        self._begin, self._end = cuda.Event(), cuda.Event()

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
    """Boundary `engine+copies`: as many queries in flight as there are slots, so that copies overlap compute.

    Input copies, compute and output copies have a stream each, chained by events, as in trtexec.
    """

    def __init__(self, stream: cuda.Stream, slots: Sequence[Slot], launches: Sequence[Launch]) -> None:
        """Queue all but one query.

        Args:
            stream: of the engine's work.
            slots: buffers, one set a query in flight.
            launches: queue the inference of each slot.
        """
        self._input, self._output = cuda.Stream(), cuda.Stream()
        self._flights = [
            _Flight(slot, launch, stream, self._input, self._output)
            for slot, launch in zip(slots, launches, strict=True)
        ]
        self._next = 0
        for _ in self._flights[1:]:
            self._submit()

    def __call__(self) -> Times:
        """Queue one query, then wait for the oldest one; its milliseconds by name."""
        self._submit()
        return self._flights[self._next].land()

    def _submit(self) -> None:
        self._flights[self._next].start()
        self._next = (self._next + 1) % len(self._flights)

    def close(self) -> None:
        """Wait for what is in flight, and release events and streams."""
        for stream in (self._input, self._output):
            stream.synchronize()
        for flight in self._flights:
            flight.close()
        for stream in (self._input, self._output):
            stream.close()


class _Flight:
    """One query in flight."""

    def __init__(
        self, slot: Slot, launch: Launch, compute: cuda.Stream, source: cuda.Stream, target: cuda.Stream
    ) -> None:
        self._slot, self._launch = slot, launch
        self._compute, self._source, self._target = compute, source, target
        # Begin and end of the input copy, of the engine's work, of the output copy.
        self._events = [cuda.Event() for _ in range(6)]
        self._enqueue = 0.0

    def start(self) -> None:
        """Queue copies and inference; the flight before on the same slot has landed."""
        up, loaded, begin, end, down, landed = self._events
        up.record(self._source)
        self._slot.source.upload(self._source.handle)
        loaded.record(self._source)
        self._compute.wait(loaded)
        begin.record(self._compute)
        start = time.perf_counter_ns()
        self._launch()
        self._enqueue = (time.perf_counter_ns() - start) / 1e6
        end.record(self._compute)
        self._target.wait(end)
        down.record(self._target)
        self._slot.target.download(self._target.handle)
        landed.record(self._target)

    def land(self) -> Times:
        """Wait for the end; milliseconds by name."""
        up, loaded, begin, end, down, landed = self._events
        landed.synchronize()
        h2d, compute, d2h = loaded.since(up), end.since(begin), landed.since(down)
        return {
            "latency": h2d + compute + d2h,
            "h2d": h2d,
            "compute": compute,
            "d2h": d2h,
            "enqueue": self._enqueue,
        }

    def close(self) -> None:
        """Destroy the events."""
        for event in self._events:
            event.close()
