"""Protects training on a machine that does other work: threads of torch that wait must not burn the others' time."""

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

from figkd import openmp
from figkd.openmp import FREE, PATIENCE_S, WANTED, Load, delays, share_waited, torchs_library, waiting_by_load

ROOT = Path(__file__).parents[2]
# In a process of its own: the library reads its environment once, and tests have a thread each.
_BEGIN = """
import json, os, subprocess, sys, threading, time
import torch
from figkd import openmp

cores = len(os.sched_getaffinity(0))
torch.set_num_threads(max(cores, 2))
numbers = torch.ones(2**18)

def work() -> float:
    "CPU time of operations with pauses, in which threads spin or sleep."
    began = time.process_time()
    for _ in range(100):
        numbers.add_(1)
        time.sleep(0.002)
    return time.process_time() - began

def asleep() -> bool:
    return any(thread.name == openmp._ASLEEP for thread in threading.enumerate())

if openmp._library() is None:
    sys.exit(3)
numbers.add_(1)
"""
_ADDED = """
library = openmp._library()
counts, times = [], []
def look():
    times.append(work())
    counts.append(len(os.listdir("/proc/self/task")))
look()
with openmp.more_threads(library):
    look()
look()
print(json.dumps({"counts": counts, "times": times}))
"""
_LOAD = """
def wait_for(wanted: bool) -> bool:
    until = time.monotonic() + 60
    while asleep() is not wanted and time.monotonic() < until:
        numbers.add_(1)
    return asleep() is wanted

found = []
with openmp.waiting_by_load():
    found.append(asleep())
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * cores)]
    try:
        found.append(wait_for(True))
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    openmp.delays = dict  # nobody waits; on this machine others may still be at work
    found.append(wait_for(False))
print(json.dumps([*found, [thread.name for thread in threading.enumerate()]]))
"""


def _ran(script: str) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment |= {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _BEGIN + script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    if done.returncode == 3:
        pytest.skip("this torch has another OpenMP library than GNU's, or this is another system than Linux")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_waiting_threads_sleep_while_there_are_more_of_them() -> None:
    """Protects the mechanism, which is the library's: the CPU time of waiting goes, and comes back."""
    found = _ran(_ADDED)
    before, within, after = found["counts"]
    assert within > before + len(os.sched_getaffinity(0)) and after <= before
    spinning, asleep, again = found["times"]
    assert asleep < 0.5 * spinning and asleep < 0.5 * again


@pytest.mark.skipif(not delays(), reason="this system does not tell how long threads wait for a core")
def test_threads_sleep_while_others_want_the_cores() -> None:
    """Protects a long training: foreign processes that come and go later are noticed both times."""
    before, crowded, free, threads = _ran(_LOAD)
    assert (before, crowded, free) == (False, True, True)
    assert threads == ["MainThread"]


def _looks(*shares: float, every: float = 1.0) -> list[bool]:
    load, found = Load(), []
    for number, share in enumerate(shares):
        load.look(share, 100 + number * every)
        found.append(load.busy)
    return found


def test_between_the_bounds_nothing_changes() -> None:
    """Protects against a change at every look."""
    between = (WANTED + FREE) / 2
    assert _looks(between, 0.0, WANTED + 0.01, between, FREE - 0.01, between) == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_threads_that_wait_because_they_sleep_are_tried_again() -> None:
    """Protects a large machine, whose many threads wait to be woken: it does not stay slow when others have gone."""
    assert PATIENCE_S == 5
    tried = [number for number, busy in enumerate(_looks(*[1.0] * 60)) if not busy]
    assert tried == [
        6,
        18,
        40,
    ]  # in vain: after 5, 10 and 20 s, each a look more, and a look until busy again


def test_patience_comes_back() -> None:
    """Protects a long training: what was busy for long an hour ago is tried soon again."""
    found = _looks(*[1.0] * 60, *[0.0] * 90, *[1.0] * 10)
    assert found[60:150] == [False] * 90 and found[150:] == [True] * 6 + [False] + [True] * 3


def test_waits_are_read_of_threads_that_live(tmp_path: Path) -> None:
    """Protects the share: a thread that came or went in between has no say, and what cannot be read is left out."""
    for thread, text in {"1": "9 500000000 3\n", "2": "what?", "3": ""}.items():
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    (tmp_path / "4").mkdir()
    assert delays(tmp_path) == {"1": 500_000_000}
    assert delays(tmp_path / "none") == {}
    assert share_waited({"1": 0, "7": 5}, {"1": 500_000_000, "8": 10**9}, 2.0) == 0.25


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [
        (["/p/torch/lib/libgomp.so.1", "/p/torchvision.libs/libgomp-a.so.1"], "/p/torch/lib/libgomp.so.1"),
        (
            ["/p/scikit_learn.libs/libgomp-b.so.1", "/p/torch.libs/libgomp-c.so.1"],
            "/p/torch.libs/libgomp-c.so.1",
        ),
        (["/usr/lib/my own/libgomp.so.1.0.0"], "/usr/lib/my own/libgomp.so.1.0.0"),
        (["/p/a.libs/libgomp-a.so", "/usr/lib/libgomp.so.1"], None),
        (["/conda/lib/libomp.so"], None),
    ],
)
def test_torchs_own_copy_is_found(loaded: list[str], expected: str | None) -> None:
    """Protects: threads that another copy of the library counts would do nothing for torch's."""
    lines = [f"7f00-7f01 r-xp 00000000 fd:00 77{' ' * 20}{path}\n" for path in loaded for _ in range(2)]
    lines += ["7f00-7f01 rw-p 00000000 00:00 0 \n", "7ffc-7ffd r-xp 00000000 00:00 0   [vdso]\n"]
    assert torchs_library(lines, Path("/p/torch")) == expected


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in openmp._USERS:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _watchers() -> int:
    return sum(thread.name == openmp._LOOKING for thread in threading.enumerate())


@pytest.mark.skipif(openmp._library() is None, reason="another OpenMP library than GNU's")
@pytest.mark.usefixtures("two_threads")
def test_one_thread_looks_in_blocks_within_blocks() -> None:
    """Protects validation within training, and the end: no thread stays."""
    with waiting_by_load(), waiting_by_load():
        assert _watchers() == 1
    assert _watchers() == 0
    with pytest.raises(ValueError, match="inside"), waiting_by_load():
        raise ValueError("inside")
    with waiting_by_load():
        assert _watchers() == 1


@pytest.mark.skipif(openmp._library() is None, reason="another OpenMP library than GNU's")
@pytest.mark.usefixtures("two_threads")
def test_a_system_that_gives_no_thread_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a container with few processes, whose training the library would end; Python asks first."""
    library = openmp._library()
    assert library is not None
    start, given = threading.Thread.start, []

    def few(thread: threading.Thread) -> None:
        if len(given) == 2:
            raise RuntimeError("can't start new thread")
        given.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    with openmp.more_threads(library):
        assert len(given) == 2 and not any(thread.is_alive() for thread in given)
    with waiting_by_load():
        assert _watchers() == 0


@pytest.mark.parametrize("name", openmp._USERS)
@pytest.mark.usefixtures("two_threads")
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with waiting_by_load():
        assert _watchers() == 0


@pytest.mark.usefixtures("two_threads")
def test_one_thread_waits_for_nobody() -> None:
    torch.set_num_threads(1)
    with waiting_by_load():
        assert _watchers() == 0


def test_a_look_is_cheap() -> None:
    """Protects idle machines: looks take a small part of a core's time."""
    delays()
    began = time.thread_time()
    for _ in range(20):
        delays()
    assert (time.thread_time() - began) / 20 < 0.05 * openmp.LOOK_S
