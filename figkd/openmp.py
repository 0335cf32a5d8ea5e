"""Where torch's threads run on a CPU: anywhere while cores are free, each on a core of its own while others want them.

The threads of an operation wait for the last of them. On a machine that does other work the system moves them, often
two to one core, where each waits for the other's turn; training then falls to a tenth of its speed and less. Threads
that stay apart lose what the others take, and little more. No result depends on it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

LOOK_S = 0.2
"""Between two looks at what this process's threads waited for."""
WANTED, FREE = 0.2, 0.1
"""Seconds in each second that one of the computing threads waited for a core: above the first, others want the cores;
below the other, no longer. On two idle cores it is 0.01 to 0.09, beside one foreign process 0.3 to 1.0, or 0.27 to 0.44
with places."""

_USERS = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "OMP_WAIT_POLICY")
"""These say where threads run, or that they always sleep, which gains nothing by a place."""
_TASKS = Path("/proc/self/task")
_LOOKING = "figkd-load"
_watching = threading.Lock()


class Times(NamedTuple):
    """Nanoseconds that a thread has run and has waited for a core."""

    ran: int
    waited: int


@contextlib.contextmanager
def placed_by_load() -> Iterator[None]:
    """Within this block, computing threads keep to a core each while others want the cores.

    Threads that start in it may run anywhere; a process that starts in it has the core of the thread that starts it.
    Nothing happens where torch has fewer or more threads than this process has cores, on systems other than Linux, in a
    block within another, and where the environment has OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY or OMP_WAIT_POLICY.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if (
        not 1 < len(cores) == torch.get_num_threads()
        or any(map(os.environ.get, _USERS))
        or not _watching.acquire(blocking=False)
    ):
        yield
        return
    end = threading.Event()
    watch = threading.Thread(target=partial(_watch, cores, end), name=_LOOKING, daemon=True)
    try:
        with contextlib.suppress(RuntimeError):  # the system gives no thread: nothing changes
            watch.start()
        yield
    finally:
        end.set()
        if watch.is_alive():
            watch.join()
        _watching.release()


def _watch(cores: Sequence[int], end: threading.Event) -> None:
    places: dict[int, int] = {}
    before, then = times(), time.perf_counter()
    ended = False
    while not ended:
        ended = end.wait(LOOK_S)
        after, now = times(), time.perf_counter()
        spent = {
            thread: Times(after[thread].ran - since.ran, after[thread].waited - since.waited)
            for thread, since in before.items()
            if thread in after
        }
        wanted = {} if ended else places_wanted(spent, (now - then) * 1e9, cores, places)
        # A thread has the place of the one that started it.
        new = after.keys() - before.keys() if places else ()
        _move({**dict.fromkeys([*places, *new], cores), **{t: [core] for t, core in wanted.items()}})
        before, then, places = after, now, wanted


def places_wanted(
    spent: Mapping[int, Times], nanoseconds: float, cores: Sequence[int], places: Mapping[int, int]
) -> dict[int, int]:
    """The core that each computing thread should keep to; none while no thread waits for long.

    Args:
        spent: what each thread has run and waited since the last look.
        nanoseconds: since then.
        cores: as many as there are computing threads, the ones with the most time.
        places: those of before. Threads stay where they are.
    """
    computing = sorted(spent, key=lambda thread: (-sum(spent[thread]), thread))[: len(cores)]
    longest = max((spent[thread].waited for thread in computing), default=0) / nanoseconds
    if longest <= (FREE if places else WANTED):
        return {}
    kept = {thread: places[thread] for thread in computing if thread in places}
    left = iter([core for core in cores if core not in kept.values()])
    return {thread: kept[thread] if thread in kept else next(left) for thread in computing}


def times(tasks: Path = _TASKS) -> dict[int, Times]:
    """What each thread of this process has spent; empty where the system does not tell."""
    found = {}
    with contextlib.suppress(OSError):
        for thread in os.listdir(tasks):
            with contextlib.suppress(OSError, ValueError):  # it may have ended
                found[int(thread)] = times_of(int(thread), tasks)
    return found


def times_of(thread: int, tasks: Path = _TASKS) -> Times:
    """What a thread of this process has spent.

    Raises:
        OSError: the system does not tell, or there is no such thread.
    """
    ran, waited, _ = (tasks / str(thread) / "schedstat").read_text(encoding="ascii").split()
    return Times(int(ran), int(waited))


def _move(cores: Mapping[int, Sequence[int]]) -> None:
    for thread, allowed in cores.items():
        with contextlib.suppress(OSError):  # it may have ended, or another may have taken cores away
            os.sched_setaffinity(thread, allowed)
