"""A process of its own that makes candidates: one that crashes in a library is a failed row, not the end of all.

It also keeps PyTorch, its threads and its memory out of the process that times engines.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Literal

from export.errors import BackendMissing, ExportError
from figkd.errors import FigkdError
from figkd.progress import Progress
from pipeline.core.errors import EnvironmentFault, PipelineError
from pipeline.core.faults import defect, environment_fault, out_of_memory
from pipeline.search.untrained import Making, Material, Untrained, make

_JOIN_S = 5.0


@dataclass(frozen=True)
class CannotBeMade:
    """Why a candidate has no files. `lasting`: it will be so next time, too."""

    reason: str
    fix: str
    lasting: bool = True


@dataclass(frozen=True)
class _Task:
    making: Making
    material: Material
    folder: Path
    logs: Path


class Maker:
    """Makes candidates, one after the other; a context manager."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._end: Connection | None = None
        self._busy = False

    def __enter__(self) -> Maker:
        """Nothing is started before it is needed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._stop()

    def make(
        self, making: Making, material: Material, folder: Path, logs: Path, progress: Progress
    ) -> Untrained | CannotBeMade:
        """Make a candidate's files in a folder.

        Args:
            making: the candidate, and how it is exported.
            material: images and classes.
            folder: empty.
            logs: folder for the traceback of a defect.
            progress: of the steps.

        Raises:
            PipelineError: the disk is full, or a package is missing; that concerns the others, too.
        """
        end = self._started()
        try:
            end.send(_Task(making, material, folder, logs))
            self._busy = True
            while (answer := end.recv())[0] == "progress":
                progress(*answer[1])
            self._busy = False
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return self._died()
        kind, content = answer
        if kind == "fault":
            raise content
        return content  # type: ignore[no-any-return]

    def _started(self) -> Connection:
        if self._end is None:
            context = multiprocessing.get_context("spawn")
            self._end, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        return self._end

    def _died(self) -> CannotBeMade:
        process = self._process
        if process is not None:
            process.join(_JOIN_S)
        code = process.exitcode if process is not None else None
        self._stop()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            killed = name == "SIGKILL"
            why = ": probably by the system, for lack of memory" if killed else ""
            reason = f"building or exporting it ended its process with {name}{why}"
            return CannotBeMade(reason, "free memory, or leave it out", lasting=not killed)
        return CannotBeMade("building or exporting it ended its process", "leave it out")

    def _stop(self) -> None:
        if self._end is not None:
            self._end.close()  # an idle process ends by itself, and cleans up
        if self._process is not None:
            self._process.join(0 if self._busy else _JOIN_S)
            self._process.kill()
            self._process.join(_JOIN_S)
        self._busy = False
        self._end = self._process = None


def _serve(end: Connection) -> None:
    """Make what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task: _Task = end.recv()
            end.send(_answer(task, end))


def _answer(
    task: _Task, end: Connection
) -> tuple[Literal["done", "fault"], Untrained | CannotBeMade | PipelineError]:
    def progress(done: int, total: int, note: str) -> None:
        end.send(("progress", (done, total, note)))

    name = task.making.candidate.id
    try:
        return "done", make(task.making, task.material, task.folder, progress)
    except BackendMissing as error:
        return "fault", EnvironmentFault(error.what, where=name, fix=error.fix)
    except (FigkdError, ExportError) as error:
        return "done", CannotBeMade(error.what, error.fix)
    except MemoryError:
        fault = out_of_memory(name)
        return "done", CannotBeMade(fault.what, fault.fix, lasting=False)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except OSError as error:
        return "fault", environment_fault(error, name)
    except Exception as error:  # a defect of a library or of ours: the others go on
        found = defect(error, name.replace("/", "-"), task.logs)
        return "done", CannotBeMade(found.what, found.fix, lasting=False)
