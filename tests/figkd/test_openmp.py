"""Protects training on a machine that does other work: threads that wait for each other stay on cores of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from figkd import openmp
from figkd.openmp import FREE, WANTED, Times, placed_by_load, places_wanted, times

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(not times(), reason="this system does not tell how long threads wait for a core")
SECOND = 10**9
# In a process of its own, which may be moved: tests have a thread each.
_LOAD = """
import json, os, subprocess, sys, threading, time
import torch
from figkd import openmp

cores = sorted(os.sched_getaffinity(0))
torch.set_num_threads(len(cores))
numbers = torch.ones(2**18)

def places() -> dict[str, list[int]]:
    "The cores of threads that may not run on all of them."
    found = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            allowed = sorted(os.sched_getaffinity(int(thread)))
        except OSError:
            continue
        if allowed != cores:
            found[thread] = allowed
    return found

def wait_for(count: int) -> bool:
    until = time.monotonic() + 60
    while len(places()) != count and time.monotonic() < until:
        numbers.add_(1)
    return len(places()) == count

def own() -> None:
    born.append(sorted(os.sched_getaffinity(0)))
    time.sleep(5 * openmp.LOOK_S)
    born.append(sorted(os.sched_getaffinity(0)))

found, born = [], []
with openmp.placed_by_load():
    found.append(wait_for(0))
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(cores))]
    try:
        found.append(wait_for(len(cores)))
        taken = sorted(places().values())
        child = threading.Thread(target=own)
        child.start()
        while child.is_alive():
            numbers.add_(1)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    real = openmp.times
    # On this machine others may still be at work.
    openmp.times = lambda: {thread: openmp.Times(spent.ran, 0) for thread, spent in real().items()}
    found.append(wait_for(0))
    openmp.times = real
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * len(cores))]
    try:
        found.append(wait_for(len(cores)))
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
found.append(not places())
print(json.dumps({
    "found": found, "cores": cores, "taken": taken, "born": born[-1],
    "threads": [thread.name for thread in threading.enumerate()],
}))
"""


def _ran(script: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment |= {"PYTHONPATH": str(ROOT), "GOMP_SPINCOUNT": "20000"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@LINUX
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one place")
def test_threads_have_places_while_others_want_the_cores() -> None:
    """Protects a long training: foreign processes that come and go are noticed, and all is as before at the end.

    A thread that is started meanwhile may run anywhere.
    """
    found = _ran(_LOAD)
    assert found["found"] == [True] * 5
    assert found["taken"] == [[core] for core in found["cores"]]
    assert found["born"] == found["cores"] and found["threads"] == ["MainThread"]


def test_between_the_bounds_nothing_changes() -> None:
    """Protects against a change at every look."""
    places: dict[int, int] = {}
    found = []
    between = (WANTED + FREE) / 2
    for share in (between, 0.0, WANTED + 0.01, between, FREE - 0.01, between):
        waited = int(share * SECOND)
        places = places_wanted(
            {1: Times(SECOND, 0), 2: Times(SECOND - waited, waited)}, SECOND, (0, 1), places
        )
        found.append(bool(places))
    assert found == [False, False, True, True, False, False]


def test_only_threads_that_compute_count() -> None:
    """Protects idle machines: what a thread waits that hardly runs says nothing, and it has no place."""
    computing = {1: Times(SECOND, 0), 2: Times(SECOND, 0)}
    assert places_wanted({**computing, 3: Times(0, SECOND // 2)}, SECOND, (4, 7), {}) == {}
    busy = {1: Times(SECOND // 2, SECOND // 2), 3: Times(1000, 1000), 2: Times(SECOND, 0)}
    assert places_wanted(busy, SECOND, (4, 7), {}) == {1: 4, 2: 7}


@given(
    st.dictionaries(st.integers(1, 9), st.tuples(st.integers(0, SECOND), st.integers(0, SECOND)), max_size=9),
    st.lists(st.integers(0, 20), min_size=2, max_size=6, unique=True),
    st.data(),
)
def test_each_core_has_one_thread_which_stays(
    spent: dict[int, tuple[int, int]], cores: list[int], data: st.DataObject
) -> None:
    """Protects the gain: two threads on one core would wait for each other's turn."""
    threads = data.draw(st.permutations(range(1, 10)))
    before = dict(zip(threads, cores, strict=False))
    found = places_wanted({t: Times(*both) for t, both in spent.items()}, SECOND, cores, before)
    assert len(set(found.values())) == len(found) and set(found.values()) <= set(cores)
    assert all(before[thread] == core for thread, core in found.items() if thread in before)
    assert not found or len(found) == min(len(cores), len(spent))


def test_times_are_read_of_threads_that_live(tmp_path: Path) -> None:
    """Protects a look: what cannot be read is left out."""
    for thread, text in {"1": "9 500000000 3\n", "2": "what?", "3": ""}.items():
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    (tmp_path / "4").mkdir()
    assert times(tmp_path) == {1: Times(9, 500_000_000)}
    assert times(tmp_path / "none") == {}


@pytest.fixture
def a_thread_a_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in openmp._USERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _watchers() -> int:
    return sum(thread.name == openmp._LOOKING for thread in threading.enumerate())


@pytest.mark.usefixtures("a_thread_a_core")
def test_one_thread_looks_in_blocks_within_blocks() -> None:
    """Protects two trainings in one process, and the end: no thread stays."""
    with placed_by_load(), placed_by_load():
        assert _watchers() == 1
    assert _watchers() == 0
    with pytest.raises(ValueError, match="inside"), placed_by_load():
        raise ValueError("inside")
    with placed_by_load():
        assert _watchers() == 1


@pytest.mark.usefixtures("a_thread_a_core")
def test_a_system_that_gives_no_thread_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a container with few processes: training goes on without a look."""

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    for _ in range(2):
        with placed_by_load():
            assert _watchers() == 0


@pytest.mark.parametrize("name", openmp._USERS)
@pytest.mark.usefixtures("a_thread_a_core")
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "true")
    with placed_by_load():
        assert _watchers() == 0


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("a_thread_a_core")
def test_fewer_or_more_threads_than_cores_have_no_places(threads: int) -> None:
    """Protects trainings side by side with some cores each: the system knows better which are free."""
    torch.set_num_threads(threads)
    with placed_by_load():
        assert _watchers() == 0


def test_a_look_is_cheap() -> None:
    """Protects idle machines: looks take a small part of a core's time."""
    times()
    began = time.thread_time()
    for _ in range(20):
        times()
    assert (time.thread_time() - began) / 20 < 0.05 * openmp.LOOK_S
