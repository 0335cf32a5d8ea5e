"""From a request to its answer: admitted, prepared, run by the engine, rendered. Everything here is the thread of the
connections, but for what it hands to the worker and to the pool.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional

import numpy as np

from ..bundle.errors import BundleError, CannotRun
from ..cpu import usable_cores
from . import metrics as figures
from .http import HttpError, Request, Response
from .routes import Prepare, Render, State, Work, endpoint_of, route
from .tensors import to_json
from .worker import Worker

if TYPE_CHECKING:
    from ..arrays import Array
    from .served import Served

_LARGE = 1 << 16
"""Numbers of an answer from which on it is written by the pool."""
_MOST_THREADS = 4
_STUCK_S = 10.0
_BUSY = (("Retry-After", "1"),)

Reply = Callable[[Response], None]


@dataclass(frozen=True)
class Limits:
    """What the server takes on."""

    waiting: int = 32
    """Requests that are prepared, wait or run."""
    connections: int = 128
    body: int = 16 << 20
    """Bytes of a body, as it is sent and as it was before it was compressed."""
    bodies: int = 64 << 20
    """Bytes of all bodies that are held at a time."""
    images: int = 128
    """In a request."""
    read_s: float = 30.0
    """From the first byte of a request to its last, and for an answer to be taken."""
    idle_s: float = 60.0
    """Between two requests of a connection."""
    answer_s: float = 60.0
    """From a request to its answer."""


class Job:
    """A request that the engine is to answer."""

    def __init__(self, work: Work, served: Served, reply: Reply, loop: asyncio.AbstractEventLoop) -> None:
        self.work, self.served, self.reply, self.loop = work, served, reply, loop
        self.begun = time.perf_counter()
        self.images = 0
        self.engine_s: Optional[float] = None
        self.is_cancelled = False
        """Nobody waits for the answer any more."""


class Service:
    """What answers requests, with the release that serves."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits, self._loop = limits, loop
        self.served: Optional[Served] = None
        self.metrics = figures.Metrics()
        self.waiting = 0
        self.open_connections = 0
        self.held = 0
        """Bytes of bodies."""
        self.is_draining = False
        self.counts_outputs = False
        self.worker = Worker("engine")
        self._pool = ThreadPoolExecutor(max(1, min(_MOST_THREADS, usable_cores())), "prepare")
        self._began = time.time()

    def swap(self, served: Served) -> None:
        """Let a release serve from the next request on; the one before ends with its last answer."""
        before, self.served = self.served, served
        self.metrics.release_changed()
        if before is not None:
            self.metrics.reloads["ok"] += 1
            before.is_retired = True
            self._release(before)

    def refused(self) -> None:
        """Count a release that could not be loaded."""
        self.metrics.reloads["refused"] += 1

    def handle(self, request: Request, reply: Reply) -> Optional[Job]:
        """Answer a request, now or later, with one call of `reply`; the job where it is later."""
        endpoint = endpoint_of(request.head.path)
        try:
            found = route(request, State(self.served, self.is_ready, self._text, self.limits.body))
            if isinstance(found, Response):
                self._answer(endpoint, found, reply)
                return None
            return self._begin(found, reply)
        except HttpError as error:
            self._answer(endpoint, self.refusal(error), reply)
        except Exception as error:  # a defect of ours ends one request, not the others
            self._answer(endpoint, self.refusal(_failure(error)), reply)
        return None

    def refusal(self, error: HttpError) -> Response:
        """The answer that an error is; it is counted."""
        self.metrics.error(error.kind)
        return Response(error.status, to_json({"error": error.what}), headers=error.headers)

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.served is not None and not self.is_draining and not self.is_stuck

    @property
    def is_stuck(self) -> bool:
        """Whether the engine has been at one request for so long that it may never end."""
        return self.worker.busy_s() > min(_STUCK_S, self.limits.answer_s)

    @property
    def is_lost(self) -> bool:
        """Whether it is beyond that: nobody waits for its answer any more, and nothing behind it will be answered."""
        return self.worker.busy_s() > 2 * self.limits.answer_s

    def timed_out(self) -> None:
        """Count a request that the engine did not answer in time."""
        self.metrics.failure()

    def close(self, timeout_s: float) -> None:
        """End the threads, and release the engine."""
        self._pool.shutdown(wait=False)
        served = self.served
        if served is not None:
            self.worker.put(served.model.close)
        self.worker.close(timeout_s)

    def _begin(self, work: Work, reply: Reply) -> Optional[Job]:
        assert self.served is not None
        if self.waiting >= self.limits.waiting:
            raise HttpError(503, "%d requests wait already" % self.waiting, "busy", headers=_BUSY)
        job = Job(work, self.served, reply, self._loop)
        if work.is_quick:
            batch, render = work.prepare()
            self._admit(job)
            self.worker.put(lambda: self._run(job, batch, render))
        else:
            self._admit(job)
            self._pool.submit(self._prepare, job, work.prepare)
        return job

    def _admit(self, job: Job) -> None:
        self.waiting += 1
        job.served.active += 1

    def _prepare(self, job: Job, prepare: Prepare) -> None:
        """In the pool."""
        try:
            if job.is_cancelled:
                raise HttpError(503, "the client has gone", "gone")
            batch, render = prepare()
        except BaseException as error:
            self._later(job, None, error)
        else:
            self.worker.put(lambda: self._run(job, batch, render))

    def _run(self, job: Job, batch: Array, render: Render) -> None:
        """In the worker."""
        try:
            if job.is_cancelled:
                raise HttpError(503, "the client has gone", "gone")
            job.images = len(batch)
            begun = time.perf_counter()
            logits = job.served.model.answers(batch)
            job.engine_s = time.perf_counter() - begun
            if not np.isfinite(logits).all():
                raise CannotRun("the engine's answer is not finite")
            if self.counts_outputs and job.served.manifest.counts:
                job.served.tally.add(logits)
        except BaseException as error:
            self._later(job, None, error)
            return
        if logits.size > _LARGE:
            self._pool.submit(self._render, job, logits, render)
        else:
            self._later(job, lambda: render(logits), None)

    def _render(self, job: Job, logits: Array, render: Render) -> None:
        """In the pool."""
        try:
            response = render(logits)
        except BaseException as error:
            self._later(job, None, error)
        else:
            self._later(job, lambda: response, None)

    def _later(
        self, job: Job, make: Optional[Callable[[], Response]], error: Optional[BaseException]
    ) -> None:
        """From any thread."""
        try:
            job.loop.call_soon_threadsafe(self._finish, job, make, error)
        except RuntimeError:  # the loop has ended, and nobody waits
            pass

    def _finish(
        self, job: Job, make: Optional[Callable[[], Response]], error: Optional[BaseException]
    ) -> None:
        self.waiting -= 1
        job.served.active -= 1
        is_current = job.served is self.served
        self._release(job.served)
        if make is not None:
            try:
                response = make()
            except BaseException as failed:
                error = failed
            else:
                if is_current and job.engine_s is not None and not job.is_cancelled:
                    total = time.perf_counter() - job.begun
                    self.metrics.inference(job.work.endpoint, job.images, total, job.engine_s)
                self._answer(job.work.endpoint, response, job.reply)
                return
        if not isinstance(error, HttpError):
            if is_current and not job.is_cancelled:
                self.metrics.failure()
            error = _failure(error)
        self._answer(job.work.endpoint, self.refusal(error), job.reply)

    def _answer(self, endpoint: str, response: Response, reply: Reply) -> None:
        self.metrics.response(endpoint, response.status)
        reply(response)

    def _release(self, served: Served) -> None:
        if served.is_retired and served.active == 0:
            served.is_retired = False
            self.worker.put(served.model.close)

    def _text(self) -> str:
        gauges = {
            "figkd_waiting": ("Requests that are prepared, wait or run.", self.waiting),
            "figkd_waiting_limit": ("From how many on requests get 503.", self.limits.waiting),
            "figkd_connections": ("Open connections.", self.open_connections),
            "figkd_body_bytes": ("Bytes of bodies that are held.", self.held),
            "figkd_ready": ("Whether a release serves.", int(self.is_ready)),
            "process_resident_memory_bytes": ("Memory that this process holds.", _resident()),
            "process_start_time_seconds": ("Unix time at which this began.", self._began),
        }
        return figures.text(self.metrics, gauges, self.served.labels if self.served else {})


def _resident() -> int:
    """Bytes; 0 where the system does not say it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read(200).split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _failure(error: Optional[BaseException]) -> HttpError:
    if isinstance(error, MemoryError):
        return HttpError(503, "there is not enough memory", "memory", headers=_BUSY)
    what = error.what if isinstance(error, BundleError) else "the engine failed"
    return HttpError(500, what, "model")
