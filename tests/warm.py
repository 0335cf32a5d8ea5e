"""The command line in a process of its own that does not import torch again: a fork of one that has.

Importing takes seconds, most commands of the tests fractions of one. A process that has imported what the command
needs, and done nothing else, forks for each; the child gets its own folder, environment, files and arguments, and runs
`python -m pipeline.cli` as a new interpreter would. What only a new one can show (which modules are imported, what
the environment decides at its start) is tested with a new one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
_MODULE = "pipeline.cli"
_MESSAGE_BYTES = 200_000
_AT_START = (
    "PYTHON", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS", "ONEDNN_", "ATEN_", "CUDA_", "LD_", "LC_", "LANG", "TZ",
)  # fmt: skip
"""Environment that is read when an interpreter or a library starts."""


class Warm:
    """The process that forks, and the commands that it runs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._at_start = _at_start(environment)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                cwd=ROOT, env=dict(environment), pass_fds=[theirs.fileno()],
            )  # fmt: skip
        atexit.register(self.close)

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a command would start the same in this environment."""
        return _at_start(environment) == self._at_start

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of a command.

        Raises:
            TimeoutError: it does not end.
            ConnectionError: the process that forks has gone.
        """
        said = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with mine, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with theirs, open(os.devnull, "rb") as nothing:
                files = [theirs.fileno(), nothing.fileno(), out.fileno(), err.fileno()]
                socket.send_fds(self._socket, [said], files)
            mine.settimeout(timeout_s)
            code = mine.recv(20)
            if not code:
                raise ConnectionError("the process that forks has gone")
            return int(code), *(_text(file.fileno()) for file in (out, err))  # type: ignore[return-value]

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(20)


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_START)}


def _text(file: int) -> str:
    data = os.pread(file, os.fstat(file).st_size, 0)
    return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")  # as subprocess does


def _fork_for_each(connection: socket.socket) -> NoReturn:
    """Fork for each command that is asked for, until nobody can ask any more."""
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([connection, *children], [], [])
        for watched in ready:
            if watched is connection:
                continue
            child, reply = children.pop(watched)
            os.close(watched)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with reply:
                _send(reply, str(code))
        if connection not in ready:
            continue
        said, files, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 4)
        if not said:
            sys.exit()
        child = os.fork()
        if not child:
            connection.close()
            for watched, (_, reply) in children.items():
                os.close(watched)
                reply.close()
            os.close(files[0])
            _become(*json.loads(said), files[1:])
        for file in files[1:]:
            os.close(file)
        children[os.pidfd_open(child)] = (child, socket.socket(fileno=files[0]))


def _send(reply: socket.socket, text: str) -> None:
    with suppress(OSError):  # who asked has gone
        reply.send(text.encode())


def _become(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> NoReturn:
    """The command, with its own folder, environment and files."""
    import runpy

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder  # as `-m` does
    sys.argv = ["", *arguments]
    code: object = None
    try:
        runpy.run_module(_MODULE, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    # What an interpreter does at its end, but for taking all modules apart, which would copy every page of theirs.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _import_all() -> None:
    """What commands need and takes long to import. No thread may run when it is done: a fork would lose it."""
    import onnx  # noqa: F401
    import scipy.cluster.hierarchy  # noqa: F401
    import timm  # noqa: F401
    import torch  # noqa: F401
    import torchvision  # noqa: F401

    import pipeline.run.conductor  # noqa: F401


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # collecting would copy the pages of all that was imported
    _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
