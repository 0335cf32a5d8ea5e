"""Python in a process of its own that does not import torch again: a fork of one that has.

Importing takes seconds, most commands of the tests fractions of one. A process that has imported what they need, and
done nothing else, forks for each; the child gets its own folder, environment, files and arguments, and runs `-m MODULE`
or `-c CODE` as a new interpreter would. What only a new one can show (which modules are imported, what the environment
decides at its start) is tested with a new one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from tests.warm_client import ENDING

ROOT = Path(__file__).parents[1]
_MESSAGE_BYTES = 200_000
_AT_START = (
    "PYTHON", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS", "ONEDNN_", "ATEN_", "LD_", "LC_", "LANG", "TZ",
)  # fmt: skip
"""Environment that is read when an interpreter or a library starts."""
SHARED = "FIGKD_TESTS_WARM"
"""Holds the address of the process that all workers of a run share."""
_ENCODING = "PYTHONIOENCODING"
_LATER = {
    _ENCODING,  # can be obeyed later
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK",  # set by scipy.io and scikit-learn where they are imported
}  # fmt: skip
"""These do not call for another interpreter."""


@dataclass(frozen=True)
class Warm:
    """The process that forks, and the commands that it runs. Its address is a socket's."""

    address: str

    def command(self, *words: str) -> list[str]:
        """A command line that does in any process what `python WORDS` does: `-m MODULE` or `-c CODE`, and arguments.

        Its folder, environment, standard streams and end are the command's; SIGINT, SIGTERM and SIGHUP reach it, and
        it is killed with it. Limits are not its own. Where the environment would make another interpreter, it is one.
        """
        client = Path(__file__).with_name("warm_client.py")
        return [sys.executable, "-I", "-S", str(client), self.address, *words]


def start(environment: Mapping[str, str]) -> Warm:
    """Start one; it ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="warm")
    address = str(Path(folder.name) / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", str(listener.fileno())],
            cwd=ROOT, env=dict(environment), pass_fds=[listener.fileno()], stdin=subprocess.PIPE,
        )  # fmt: skip

    def close() -> None:
        assert process.stdin
        process.stdin.close()
        process.wait(20)
        folder.cleanup()

    atexit.register(close)
    return Warm(address)


@cache
def warm() -> Warm:
    """The one of this run."""
    shared = os.environ.get(SHARED)
    return Warm(shared) if shared else start(environment())


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill a command of `warm()`; it is dead when this returns."""
    process.kill()
    process.wait()
    subprocess.run(warm().command("-c", ""), env=environment(), check=True)  # begun after the kill was seen


def environment() -> dict[str, str]:
    """Of a command of the tests: two processes with two threads each on two cores would only wait for each other."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    named = {name: value for name, value in environment.items() if name.startswith(_AT_START)}
    return {name: value for name, value in named.items() if name not in _LATER}


def _fork_for_each(listener: socket.socket) -> NoReturn:
    """Fork for each command that is asked for, until who started this has gone."""
    environment = dict(os.environ)
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        askers = {asking: child for child, asking in children.values()}
        ready, _, _ = select.select([listener, sys.stdin.fileno(), *children, *askers], [], [])
        for watched in ready:
            if watched in children:
                child, asking = children.pop(watched)
                os.close(watched)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with asking, suppress(OSError):  # who asked may have gone
                    asking.send(str(code).encode())
            elif watched in askers and watched.fileno() >= 0:  # who asked has gone before the end
                os.kill(askers[watched], signal.SIGKILL)
        if sys.stdin.fileno() in ready:
            for child, _ in children.values():
                os.kill(child, signal.SIGKILL)
            sys.exit()
        if listener not in ready:
            continue
        asking, _ = listener.accept()
        said, files, _, _ = socket.recv_fds(asking, _MESSAGE_BYTES, 4)
        words, theirs, ignored = json.loads(said) if said else ([], {}, [])
        if not said or _at_start(theirs) != _at_start(environment):
            with asking, suppress(OSError):
                asking.send(b"no")
        elif child := os.fork():
            children[os.pidfd_open(child)] = (child, asking)
            with suppress(OSError):
                asking.send(str(child).encode())
        else:
            listener.close()
            for watched, (_, reply) in children.items():
                os.close(watched)
                reply.close()
            asking.close()
            for number in ENDING:
                usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, signal.SIG_IGN if number in ignored else usual)
            _become(words, theirs, files)
        for file in files:
            os.close(file)


def _become(words: list[str], environment: dict[str, str], files: list[int]) -> NoReturn:
    """The command, with its own folder, environment and files: the standard streams."""
    kind, what, *arguments = words
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
    sys.argv = [kind, *arguments]
    code: object = None
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = ModuleType("__main__")
            exec(what, vars(sys.modules["__main__"]))
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


_IMPORTED = (
    "onnxscript.function_libs.torch_lib.ops", "scipy.cluster.hierarchy", "timm", "torch.export._trace",
    "torch.onnx._internal.exporter._compat", "torchvision",
    "export.onnx", "export.precision", "pipeline.estimate.kept", "pipeline.report.html", "pipeline.run.conductor",
)  # fmt: skip
"""What commands need and takes long to import, and starts no thread: a fork would lose it."""


def _prepare() -> None:
    """Do once what commands would do each. What is imported stays, so nothing looks for garbage meanwhile."""
    gc.disable()
    for name in _IMPORTED:
        import_module(name)
    remember_operators()
    import_module("pipeline.report.html").templates().get_template("report.html.j2")
    assert len(os.listdir("/proc/self/task")) == 1


def remember_operators() -> None:
    """The exporter reads the source of every operator's function, half a second at each export; here once a process."""
    scripts = import_module("torch.onnx._internal.exporter._registration").onnxscript_apis
    scripts.get_torchlib_ops = cache(scripts.get_torchlib_ops)


if __name__ == "__main__":
    _prepare()
    gc.freeze()  # collecting would copy the pages of all that was imported
    gc.enable()
    _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
