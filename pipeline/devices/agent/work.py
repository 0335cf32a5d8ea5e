"""One job, in its own process: a small parent watches, a child does the work.

The parent outlives what memory or a signal does to the child, and can say so.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import sys
import time
import traceback
from typing import Any, Callable

from export.runtime.errors import ExportError

from . import files, power_mode, system
from .blobs import full
from .errors import JobError, job_error, killed
from .jobs_folder import failure
from .requests import Answer, Event

_DEFECT = 70
_BADNESS = "500"


def work(folder: str, job: str) -> int:
    """Run the job whose request lies in its folder; write down how it ended."""
    place = os.path.join(folder, "jobs", job)
    os.chdir(place)
    kills, began = system.oom_kills(), time.monotonic()
    child = os.fork()
    if child == 0:
        code = _DEFECT
        try:
            code = _handle(folder, place, began)
        finally:
            _log(sys.stdout.flush)
            _log(sys.stderr.flush)
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        power_mode.put_back(folder)
        _finish(place, failure(killed("the job", os.WTERMSIG(status), system.oom_kills() - kills)), began)
    elif not os.path.exists(os.path.join(place, "outcome.json")):
        _finish(
            place, failure(JobError("the job ended without a result, code {}".format(status >> 8))), began
        )
    return 0


def _handle(folder: str, place: str, began: float) -> int:
    # If memory runs out, the kernel should take the job and not what else the device is for.
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_BADNESS)
    except OSError:
        pass
    events = os.open(os.path.join(place, "events.jsonl"), os.O_WRONLY | os.O_APPEND)

    def emit(event: Event) -> None:
        os.write(events, json.dumps(event).encode() + b"\n")

    try:
        order = files.read_json(os.path.join(place, "request.json"))
        result = _job(order["job"]).run(order["request"], folder, emit)
        _finish(place, {"ok": True, "result": result}, began)
        return 0
    except JobError as error:
        outcome = failure(error)
    except ExportError as error:
        outcome = failure(job_error(error))
    except MemoryError:
        _log(traceback.print_exc)
        outcome = failure(killed("the job", 9, 1))
    except OSError as error:
        _log(traceback.print_exc)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            outcome = failure(full("the job could not write"))
        else:
            outcome = failure(JobError(str(error), "look at the job's log"))
    except Exception as error:
        _log(traceback.print_exc)
        what = "unexpected {}: {}".format(type(error).__name__, error)
        outcome = failure(JobError(what, "please report it with the job's log", "defect"))
    _finish(place, outcome, began)
    return 1


def _log(write: Callable[[], None]) -> None:
    """The log is worth having, and not worth failing for: the disk may be full."""
    try:
        write()
    except OSError:
        pass


def _job(name: str) -> Any:
    if not re.match(r"^[a-z][a-z0-9_]*$", name):
        raise JobError("'{}' is no job".format(name), kind="request")
    try:
        return importlib.import_module("{}.jobs.{}".format(__package__, name))
    except ModuleNotFoundError as error:
        if error.name and error.name.endswith(".jobs." + name):
            raise JobError("this agent has no job '{}'".format(name), kind="request") from None
        _explain(error)
        raise
    except ImportError as error:
        _explain(error)
        raise


def _explain(error: ImportError) -> None:
    """Say how a device gets numpy, which all that runs engines needs.

    Raises:
        JobError: it was numpy that cannot be imported.
    """
    if "numpy" in "{} {}".format(error.name, error):
        what = "numpy cannot be imported on the device: {}".format(error)
        raise JobError(what, "sudo apt install python3-numpy on the device", "missing") from error


def _finish(place: str, outcome: Answer, began: float) -> None:
    files.remove(os.path.join(place, "reserve"))
    files.write_json(os.path.join(place, "outcome.json"), dict(outcome, seconds=time.monotonic() - began))
