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
    "PYTHON", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS", "ONEDNN_", "ATEN_", "LD_", "LC_", "LANG", "TZ",
)  # fmt: skip
"""Environment that is read when an interpreter or a library starts."""
_ENCODING = "PYTHONIOENCODING"
"""The only one of these that can be obeyed later."""


class Warm:
    """The process that forks, and the commands that it runs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm")
        self._address = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self._address)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(listener.fileno())],
                cwd=ROOT, env=dict(environment), pass_fds=[listener.fileno()], stdin=subprocess.PIPE,
            )  # fmt: skip
        atexit.register(self.close)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command line that does in any process what `python -m pipeline.cli` does with these arguments.

        Its folder, environment, standard streams and exit code are the command's; signals and limits are not. Where
        the environment would make another interpreter, it is a new one.
        """
        return [
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("warm_client.py")),
            self._address,
            *arguments,
        ]

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of a command.

        Raises:
            subprocess.TimeoutExpired: it does not end.
        """
        done = subprocess.run(
            self.command(arguments), cwd=folder, env=environment, capture_output=True, encoding="utf-8",
            timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)
        self._folder.cleanup()


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    named = {name: value for name, value in environment.items() if name.startswith(_AT_START)}
    return {name: value for name, value in named.items() if name != _ENCODING}


def _fork_for_each(listener: socket.socket) -> NoReturn:
    """Fork for each command that is asked for, until who started this has gone."""
    environment = dict(os.environ)
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([listener, sys.stdin.fileno(), *children], [], [])
        for watched in ready:
            if watched in children:
                child, asking = children.pop(watched)
                os.close(watched)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with asking, suppress(OSError):  # who asked may have gone
                    asking.send(str(code).encode())
        if sys.stdin.fileno() in ready:
            sys.exit()
        if listener not in ready:
            continue
        asking, _ = listener.accept()
        said, files, _, _ = socket.recv_fds(asking, _MESSAGE_BYTES, 4)
        arguments, theirs = json.loads(said) if said else ([], {})
        if not said or _at_start(theirs) != _at_start(environment):
            with asking, suppress(OSError):
                asking.send(b"no")
        elif child := os.fork():
            children[os.pidfd_open(child)] = (child, asking)
        else:
            listener.close()
            for watched, (_, reply) in children.items():
                os.close(watched)
                reply.close()
            asking.close()
            _become(arguments, theirs, files)
        for file in files:
            os.close(file)


def _become(arguments: list[str], environment: dict[str, str], files: list[int]) -> NoReturn:
    """The command, with its own folder, environment and files: the standard streams."""
    import runpy

    folder, *streams = files
    os.fchdir(folder)
    os.close(folder)
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    encoding, _, errors = environment.get(_ENCODING, "").partition(":")
    for number, name in ((1, "stdout"), (2, "stderr")):
        like = getattr(sys, name)
        made = open(  # noqa: SIM115 - for the life of the process
            number, "w", 1 if number == 2 or os.isatty(number) else -1,
            encoding=encoding or like.encoding, errors=errors if number == 1 and errors else like.errors, closefd=False,
        )  # fmt: skip
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)
    os.environ.clear()
    os.environ.update(environment)
    with suppress(FileNotFoundError):  # a folder that is gone
        sys.path[0] = os.getcwd()  # as `-m` does
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
        try:
            stream.flush()
        except OSError:
            code = code or 120
    os._exit(code if isinstance(code, int) else int(code is not None))


def _import_all() -> None:
    """What commands need and takes long to import. No thread may run when it is done: a fork would lose it."""
    import onnx  # noqa: F401
    import scipy.cluster.hierarchy  # noqa: F401
    import timm  # noqa: F401
    import torch  # noqa: F401
    import torchvision  # noqa: F401

    import pipeline.report.html
    import pipeline.run.conductor  # noqa: F401


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # collecting would copy the pages of all that was imported
    _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
