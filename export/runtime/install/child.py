"""A program that may fail, hang or take all memory, run so that none of it touches the model that serves."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import IO, Sequence

from .errors import Environment, TakenBack

_MOST_OUTPUT = 64 * 1024
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Limits:
    """What a child may take.

    Memory is what is resident: the address space, which `ulimit -v` bounds, is vast wherever CUDA is used.
    """

    seconds: float = 300.0
    megabytes: int = 4096


def run_limited(command: Sequence[str], limits: Limits) -> str:
    """Run a program to its end; what it printed.

    It is killed with all that it started when it passes a limit, or when this process ends; if memory runs out, the
    kernel takes it first.

    Raises:
        TakenBack: it passed a limit, or ended with another code than 0.
        Environment: it cannot be started.
    """
    try:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    except OSError as error:
        raise Environment(
            "it cannot be started: {}".format(error.strerror), command[0], "see that it is there"
        ) from None
    output = _Output(child.stdout)
    try:
        _offer_to_the_oom_killer(child.pid)
        reason = _wait(child, limits)
    finally:
        _kill(child)
        child.wait()
    text = output.text()
    if reason:
        raise TakenBack("the self-test {}".format(reason))
    if child.returncode:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        what = (
            "signal {}".format(-child.returncode)
            if child.returncode < 0
            else "exit code {}".format(child.returncode)
        )
        raise TakenBack(
            "the self-test failed: {} ({})".format(ascii(lines[-1])[1:-1][:300] if lines else "no word", what)
        )
    return text


def _wait(child: "subprocess.Popen[bytes]", limits: Limits) -> str:
    """Why it has to be killed; empty once it ended."""
    end = time.monotonic() + limits.seconds
    while child.poll() is None:
        if time.monotonic() > end:
            return "took longer than {:g} s".format(limits.seconds)
        if _resident_mb(child.pid) > limits.megabytes:
            return "took more than {} MB of memory".format(limits.megabytes)
        time.sleep(_POLL_S)
    return ""


class _Output:
    """The first 64 kB of what a child prints; the rest is read and dropped, so that it never waits."""

    def __init__(self, pipe: "IO[bytes] | None") -> None:
        assert pipe is not None
        self._parts: list[bytes] = []
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        size = 0
        for block in iter(lambda: os.read(self._pipe.fileno(), 4096), b""):
            if size < _MOST_OUTPUT:
                self._parts.append(block)
            size += len(block)

    def text(self) -> str:
        """What was read; a grandchild that holds the pipe open is not waited for."""
        self._thread.join(1.0)
        return b"".join(self._parts).decode("utf-8", "replace")


def _resident_mb(pid: int) -> float:
    try:
        with open("/proc/{}/statm".format(pid), encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError, ValueError):
        return 0.0


def _offer_to_the_oom_killer(pid: int) -> None:
    try:
        with open("/proc/{}/oom_score_adj".format(pid), "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        pass


def _kill(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _die_with_parent() -> None:
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass
