"""How torch's threads wait for each other on a CPU: in a loop where cores are free, asleep where others want them.

In GNU's OpenMP, which torch's wheels bring along, a thread that waits spins for 300,000 rounds, some milliseconds,
before it sleeps. That is fastest on an idle machine. On one that does other work it takes the time that the awaited
thread needs, and training falls to a tenth of its speed and less. The number of rounds is read once, when the library
is loaded. But while a process has more of OpenMP's threads than there are cores, it is 100 (manual of libgomp,
GOMP_SPINCOUNT). So threads that only sleep are added while others want the cores. No result depends on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

LOOK_S = 0.2
"""Between two looks at how long this process's threads waited for a core."""
WANTED, FREE = 0.35, 0.2
"""Seconds waited for a core in each second, over all threads: above the one, others want the cores; below the other,
no longer. Two threads on two idle cores wait for 0.0 to 0.1, beside one foreign process for 0.6 to 0.9."""
PATIENCE_S, _MOST_PATIENCE_S = 5.0, 80.0
"""After so long threads spin again to see whether others still want the cores: many threads that are woken all the time
wait too. Each time in vain doubles it."""

# These say how threads wait, or make the number of a team's threads depend on how many there are.
_USERS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_DYNAMIC", "OMP_THREAD_LIMIT")
_TASKS = Path("/proc/self/task")
_LOOKING, _ASLEEP = "figkd-load", "figkd-asleep"
_watching = threading.Lock()


@contextlib.contextmanager
def waiting_by_load() -> Iterator[None]:
    """Within this block, threads spin on an idle machine and sleep on a busy one.

    Nothing happens with one thread, on systems other than Linux, with another OpenMP than GNU's, in a block within
    another, and where the environment has OMP_WAIT_POLICY, GOMP_SPINCOUNT, OMP_DYNAMIC or OMP_THREAD_LIMIT.
    """
    if (
        torch.get_num_threads() == 1
        or any(map(os.environ.get, _USERS))
        or not _watching.acquire(blocking=False)
    ):
        yield
        return
    try:
        with contextlib.ExitStack() as stack:
            if (library := _library()) is not None:
                with contextlib.suppress(RuntimeError):  # no thread to look: nothing changes
                    stack.enter_context(_running(partial(_watch, library), _LOOKING))
            yield
    finally:
        _watching.release()


def _watch(library: ctypes.CDLL, end: threading.Event) -> None:
    load = Load()
    with contextlib.ExitStack() as added:
        before, then = delays(), time.perf_counter()
        while not end.wait(LOOK_S):
            after, now = delays(), time.perf_counter()
            was_busy = load.busy
            load.look(share_waited(before, after, now - then), now)
            before, then = after, now
            if load.busy and not was_busy:
                added.enter_context(more_threads(library))
            elif was_busy and not load.busy:
                added.close()


class Load:
    """Whether others want the cores."""

    def __init__(self) -> None:
        self.busy = False
        self._since, self._patience = -math.inf, PATIENCE_S

    def look(self, share: float, now: float) -> None:
        """Take in the seconds waited in each second since the last look; `now` in seconds."""
        long = now - self._since > self._patience
        busy = share > (FREE if self.busy else WANTED)
        if long:
            self._patience = min(2 * self._patience, _MOST_PATIENCE_S) if self.busy else PATIENCE_S
            busy = busy and not self.busy
        if busy != self.busy:
            self.busy, self._since = busy, now


def share_waited(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> float:
    """Seconds that the threads in both of two looks waited for a core, in each second between them."""
    return sum(after[thread] - since for thread, since in before.items() if thread in after) / 1e9 / seconds


def delays(tasks: Path = _TASKS) -> dict[str, int]:
    """Nanoseconds that each thread of this process has waited for a core; empty where the system does not tell."""
    found = {}
    with contextlib.suppress(OSError):
        for thread in os.listdir(tasks):
            with contextlib.suppress(OSError, ValueError, IndexError):  # it may have ended
                found[thread] = int((tasks / thread / "schedstat").read_text(encoding="ascii").split()[1])
    return found


@contextlib.contextmanager
def more_threads(library: ctypes.CDLL) -> Iterator[None]:
    """Within this block, the process has more of OpenMP's threads than there are cores, if the system lets it.

    The added ones sleep.
    """
    count = library.omp_get_num_procs() + 1

    def team(end: threading.Event) -> None:
        # A team belongs to the thread that makes it, and ends with it. It has nothing to compute: any function will do.
        nothing = ctypes.cast(library.omp_get_num_threads, ctypes.c_void_p)
        library.GOMP_parallel(nothing, None, ctypes.c_uint(count), ctypes.c_uint(0))
        end.wait()

    with contextlib.ExitStack() as added:
        # The library ends the process where it gets no thread; Python says so.
        with contextlib.suppress(RuntimeError):
            with contextlib.ExitStack() as probes:
                for _ in range(count):
                    probes.enter_context(_running(threading.Event.wait, _ASLEEP))
            added.enter_context(_running(team, _ASLEEP))
        yield


@contextlib.contextmanager
def _running(work: Callable[[threading.Event], object], name: str) -> Iterator[None]:
    """A thread that works within this block; it gets an event that says that the block has ended.

    Raises:
        RuntimeError: the system gives no thread.
    """
    end = threading.Event()
    thread = threading.Thread(target=work, args=(end,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _library() -> ctypes.CDLL | None:
    """GNU's OpenMP as torch has loaded it, or None."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        path = torchs_library(file, Path(torch.__file__).parent)
        library = None if path is None else ctypes.CDLL(path)
        if all(
            hasattr(library, name) for name in ("GOMP_parallel", "omp_get_num_procs", "omp_get_num_threads")
        ):
            return library
    return None


def torchs_library(maps: Iterable[str], torch_folder: Path) -> str | None:
    """The path of the copy of GNU's OpenMP that torch uses.

    Args:
        maps: lines of proc(5)'s /proc/PID/maps.
        torch_folder: where the package is. Other packages may have brought a copy of their own.
    """
    loaded = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "/libgomp" in line}
    own = [path for path in loaded if path.startswith((f"{torch_folder}/", f"{torch_folder}.libs/"))]
    found = own or list(loaded)
    return found[0] if len(found) == 1 else None
