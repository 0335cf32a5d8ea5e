"""Where trials run: processes of this machine, jobs of SLURM, tasks of a Ray cluster. All call the same function.

A runner is called from as many threads as there are jobs, and returns when the trial is done. What dies with a trial (a
process that the kernel kills, a node that goes away) is raised as `WorkerDied` and takes no other trial with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from pipeline.config.search import RayOptions, Search, SlurmOptions
from pipeline.core.errors import EnvironmentFault
from pipeline.search.trial import TrialOutcome, TrialRequest, run_trial

Runner = Callable[[TrialRequest], TrialOutcome]
EngineName = Literal["local", "submitit", "ray"]


_PATIENCE_S = 0.5
_CONNECT_S = 10


class WorkerDied(Exception):
    """What ran a trial is gone."""


@contextlib.contextmanager
def runner(section: Search, folder: Path) -> Iterator[Runner]:
    """What runs trials as a search says; on the way out, everything that it started is ended.

    Args:
        section: the search.
        folder: where logs of jobs go.

    Raises:
        EnvironmentFault: a package is missing, or the cluster cannot be reached.
    """
    if section.engine == "submitit":
        with _submitit(section.slurm, folder) as run:
            yield run
    elif section.engine == "ray":
        with _ray(section.ray) as run:
            yield run
    else:
        with _local(section.jobs) as run:
            yield run


@contextlib.contextmanager
def _local(jobs: int) -> Iterator[Runner]:
    workers: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    every = [_Worker() for _ in range(jobs)]
    for worker in every:
        workers.put(worker)

    def run(request: TrialRequest) -> TrialOutcome:
        worker = workers.get()
        try:
            return worker.call(request)
        finally:
            workers.put(worker)

    try:
        yield run
    finally:
        for worker in every:
            worker.end()


class _Worker:
    """A process that runs one trial after the other, and is started again after it died."""

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection[Any, Any] | None = None
        self._ended = False
        self._guard = threading.Lock()

    def call(self, request: TrialRequest) -> TrialOutcome:
        with self._guard:
            if self._ended:
                raise WorkerDied("the search ends")
            connection = self._started()
        try:
            connection.send(request)
            outcome = connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(self._why()) from error
        assert isinstance(outcome, TrialOutcome)
        return outcome

    def end(self) -> None:
        """Kill the process; what it was doing goes on from its last epoch in the next run."""
        with self._guard:
            self._ended = True
            if self._connection is not None:
                self._connection.close()  # one that waits for work ends by itself
            if self._process is not None:
                self._process.join(_PATIENCE_S)
                self._process.kill()
                self._process.join()

    def _started(self) -> Connection[Any, Any]:
        if self._connection is None or self._process is None or not self._process.is_alive():
            context = multiprocessing.get_context("spawn")  # a fork would inherit threads of torch
            ours, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs,), name="figkd-trial", daemon=True)
            self._process.start()
            theirs.close()
            self._connection = ours
        return self._connection

    def _why(self) -> str:
        process, self._connection = self._process, None
        if process is None:
            return "the worker could not be started"
        process.join(10)
        code = process.exitcode
        if code is not None and code < 0:
            hint = ": probably by the OOM killer" if code == -9 else ""
            return f"the worker was killed by signal {-code}{hint}"
        return f"the worker ended with code {code}"


def _work(connection: Connection[Any, Any]) -> None:
    """The body of a worker: ends with its search, also where that was killed."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the search, which ends its workers
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(run_trial(request))


@contextlib.contextmanager
def _submitit(options: SlurmOptions, folder: Path) -> Iterator[Runner]:
    try:
        import submitit
    except ImportError:
        raise _missing("submitit", "slurm") from None
    try:
        executor = submitit.AutoExecutor(folder=folder / "jobs" / "%j", cluster=options.cluster)
    except RuntimeError as error:
        raise EnvironmentFault(
            f"SLURM cannot be used from here: {error}",
            where="search.engine",
            fix="run where sbatch and srun are, or set slurm.cluster: local",
        ) from error
    executor.update_parameters(
        name="figkd-trial",
        timeout_min=options.timeout_min,
        cpus_per_task=options.cpus,
        gpus_per_node=options.gpus,
        **({} if options.mem_gb is None else {"mem_gb": options.mem_gb}),
        **({} if options.partition is None else {"slurm_partition": options.partition}),
    )
    jobs: set[Any] = set()

    def run(request: TrialRequest) -> TrialOutcome:
        job = executor.submit(run_trial, request)
        jobs.add(job)
        try:
            outcome = job.result()
        except Exception as error:  # submitit's own, and whatever a job that died left
            raise WorkerDied(_last_line(error)) from error
        finally:
            jobs.discard(job)
        assert isinstance(outcome, TrialOutcome)
        return outcome

    try:
        yield run
    finally:
        for job in list(jobs):
            job.cancel()


@contextlib.contextmanager
def _ray(options: RayOptions) -> Iterator[Runner]:
    try:
        import ray
    except ImportError:
        raise _missing("ray", "ray") from None
    _require_listener(options.address)
    try:
        ray.init(
            address=options.address,
            include_dashboard=False if options.address is None else None,
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise EnvironmentFault(
            f"the Ray cluster cannot be reached: {_last_line(error)}",
            where="search.ray.address",
            fix="start it, or leave the address out for one on this machine",
        ) from error
    task = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=0)(run_trial)

    def run(request: TrialRequest) -> TrialOutcome:
        try:
            outcome = ray.get(task.remote(request))
        except ray.exceptions.RayError as error:
            raise WorkerDied(_last_line(error)) from error
        assert isinstance(outcome, TrialOutcome)
        return outcome

    try:
        yield run
    finally:
        ray.shutdown()


def _require_listener(address: str | None) -> None:
    """Refuse the address of a cluster where nobody listens; Ray itself tries for minutes, and then ends the process."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return  # none, or `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"no Ray cluster answers at {address}: {_last_line(error)}",
            where="search.ray.address",
            fix="start it, or leave the address out for one on this machine",
        ) from error


def _missing(package: str, extra: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"the package {package} is not installed",
        where="search.engine",
        fix=f"pip install 'figkd-pipeline[{extra}]', or set engine: local",
    )


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
