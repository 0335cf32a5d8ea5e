"""How many threads train on a CPU beside other processes.

An operation ends with its slowest thread. Two threads of which one shares a core with another process may be slower
than one that has a core to itself: that depends on the network. The number of threads changes how sums are rounded, so
a training keeps the number that it began with.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import zlib
from collections.abc import Callable, Collection, Sequence

import torch

from figkd.openmp import times_of
from figkd.replicas import threads

LOOK_S = 0.05
"""How long each core is looked at: a dozen turns of Linux's scheduler."""
TURNS, WARM_S, TURN_S = 2, 0.3, 0.4
"""Of each number of threads. Until a fifth of a second has passed, threads have no cores of their own
(`figkd.openmp`)."""
LONG_S = 1.0
"""A step as long as this needs no warming up."""
FASTER = 1.1
"""Fewer threads have to be so many times as fast: when the others have gone, all threads are faster again."""
_ALMOST_ALL = 0.9
_BYTES = bytes(8 * 2**20)
"""What a look computes on: long enough that threads seldom meet at the interpreter's lock."""

Trial = Callable[[], contextlib.AbstractContextManager[Callable[[], object]]]
"""Gives a function that runs a step as the training would, in the number of threads that torch then has."""


def threads_by_load(trial: Trial, fewest: int = 1) -> int:
    """torch's number of threads, or as many as there are cores that others leave free, if these are faster now.

    Takes 0.05 s on an idle machine, and three to eight seconds, or four long steps, on a busy one. It is torch's number
    on systems other than Linux, where the environment has OMP_NUM_THREADS, and where the trial fails.

    Args:
        trial: leaves no trace in the training.
        fewest: threads, >= 1.
    """
    most = torch.get_num_threads()
    if most <= fewest or not hasattr(os, "sched_setaffinity") or os.environ.get("OMP_NUM_THREADS"):
        return most
    cores = os.sched_getaffinity(0)
    wanted = round(cores_wanted(shares(cores)))
    few = max(len(cores) - wanted, fewest)
    if not wanted or few >= most:
        return most
    seconds = dict.fromkeys((few, most), 0.0)
    try:
        for _ in range(TURNS):
            for count in seconds:
                seconds[count] += _turn(trial, count)
    except Exception:  # the training will say what is wrong with its steps
        return most
    return few if seconds[most] > FASTER * seconds[few] else most


def _turn(trial: Trial, count: int) -> float:
    """Seconds of a step in so many threads; what the trial took is free afterwards."""
    with threads(count), trial() as step:
        return seconds_of(step)


def seconds_of(step: Callable[[], object]) -> float:
    """Seconds that a step takes: the mean over `TURN_S`, after `WARM_S`; of a longer one than `LONG_S`, the first."""

    def run(least: float) -> tuple[float, int]:
        began, count = time.perf_counter(), 0
        while not count or time.perf_counter() - began < least:
            step()
            count += 1
        return time.perf_counter() - began, count

    took, count = run(WARM_S)
    if took < LONG_S:
        took, count = run(TURN_S)
    return took / count


def cores_wanted(shares: Sequence[float]) -> float:
    """Cores that others want all the time, from the share of its core's time that a thread on each got (0 to 1).

    A thread that has half of its core shares it with one other. What wants a core more than once, or before us, is
    that one core's. The system's own work takes a little of each.
    """
    return sum(min(1 / max(share, 0.01) - 1, 1) for share in shares if share < _ALMOST_ALL)


def shares(cores: Collection[int]) -> list[float]:
    """The share of its time, 0 to 1, that a thread of ours gets on each core that it may use.

    Of the time in which it could run: not while it waits for the interpreter's lock.
    """
    found = []

    def compute(core: int) -> None:
        # Another may have taken the core away, or the system does not tell.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, [core])  # of this thread
            before, began = times_of(threading.get_native_id()), time.perf_counter()
            while time.perf_counter() - began < LOOK_S:
                zlib.crc32(_BYTES)
            after = times_of(threading.get_native_id())
            ran, waited = after.ran - before.ran, after.waited - before.waited
            found.append(ran / max(ran + waited, 1))

    looking = [threading.Thread(target=compute, args=(core,), daemon=True) for core in cores]
    with contextlib.suppress(RuntimeError):  # the system gives no more threads
        for thread in looking:
            thread.start()
    for thread in looking:
        if thread.ident is not None:
            thread.join()
    return found
