"""Protects: after large bodies in several threads, the memory goes back to the system, once nobody asks."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from export.runtime.serve import heap

_PROGRAM = """
import threading
from export.runtime.malloc import give_back, share_one

def resident_kib():
    with open("/proc/self/status") as file:
        return int(file.read().split("VmRSS:")[1].split()[0])

def bodies():
    for mib in (4, 8, 16, 16, 12, 16):
        body = b"x" * (mib << 20)
        small.append(bytes(2000))  # stays behind the body in its heap
        del body

share_one()
small, before = [], resident_kib()
threads = [threading.Thread(target=bodies) for _ in range(3)]
for one in threads:
    one.start()
for one in threads:
    one.join()
bodies()
kept = resident_kib() - before
give_back()
print(kept, resident_kib() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_large_bodies_are_given_back() -> None:
    kept, left = map(int, subprocess.check_output([sys.executable, "-c", _PROGRAM], timeout=60).split())
    assert kept > 8 << 10  # else there is nothing to give back
    assert left < 2 << 10


def test_memory_is_given_back_once_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    looked = heap.Heap()
    for now_s, answered, is_busy in (
        (0, 0, False), (4, 0, False), (6, 0, False), (20, 0, False),  # at 6
        (21, 3, False), (25, 3, True), (29, 3, False), (30, 3, False), (40, 3, False),  # at 30
    ):  # fmt: skip
        monkeypatch.setattr(heap, "give_back", lambda now_s=now_s: given.append(now_s))
        looked.look(now_s, answered, is_busy)
    assert given == [6, 30]
