"""The process that does the checks of a group, one after the other, as it is told."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.gpu.checks import Found, Options, ended_by, run_check

_PR_SET_PDEATHSIG = 1


def serve(pipe: Connection, group: str, module: str, options: Options, log: Path) -> None:
    """Prepare a group, answer `ready` or `not run`, then do what is asked for by name.

    What is printed meanwhile goes to `log`. The process ends with the one that asks, however that ends.
    """
    os.setsid()  # so that it can be ended together with the processes that it starts
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with log.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        found = importlib.import_module(module)
        rig, facts = found.prepare(group, options)
    except Exception as error:
        _send(pipe, ended_by(error))
        return
    _send(pipe, {"state": "ready", "facts": facts})
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        _send(pipe, run_check(found.CHECKS[name], rig))
        sys.stdout.flush()


def _send(pipe: Connection, answer: Found) -> None:
    pipe.send(json.dumps(answer, default=str))
