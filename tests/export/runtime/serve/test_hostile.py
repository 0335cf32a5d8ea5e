"""Protects: whatever clients send, the server goes on, says no, and holds no more memory than before."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from export.runtime.serve.heap import IDLE_S
from tests.export.bundle.tiny import bundle
from tests.export.runtime.serve.hostile import GOOD, INFER, attack
from tests.export.runtime.serve.made import ask, process, statuses
from tests.memory import resident_bytes

_REFUSED = {400, 404, 405, 408, 411, 413, 415, 417, 431, 501, 503, 505}


def _attacked(tmp_path: Path, warm: int, count: int, quiet_s: float = 0) -> int:
    """Growth in bytes by so many bad requests, after others; what a good one gets is the same before and after."""
    with process("--unsigned", program=bundle(tmp_path) / "run.pyz") as (running, port):
        good = ask(port, "POST", INFER, GOOD)
        assert good[0] == 200
        seen: set[int] = set()

        def one(seed: int) -> None:
            seen.update(statuses(attack(port, seed)))

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(one, range(warm)))
            time.sleep(quiet_s)
            before = resident_bytes(running.pid)
            list(pool.map(one, range(warm, warm + count)))
        assert running.poll() is None
        assert ask(port, "POST", INFER, GOOD) == good
        idle = ["figkd_waiting 0\n", "figkd_body_bytes 0\n", "figkd_connections 1\n"]
        end = time.monotonic() + 30
        while not all(line in (text := ask(port, "GET", "/metrics")[1].decode()) for line in idle):
            assert time.monotonic() < end, text
            time.sleep(0.1)
        kinds = dict(re.findall(r'figkd_errors_total\{kind="(\w+)"\} (\d+)', text))
        assert not {"defect", "model", "memory"} & set(kinds), kinds
        assert seen <= {200, *_REFUSED}, seen  # some changes leave a request good
        time.sleep(quiet_s)
        growth = resident_bytes(running.pid) - before
        running.terminate()
        assert running.wait(20) == 0
        assert running.stderr and running.stderr.read().startswith("stopped: ")
    return growth


def test_hundreds_of_bad_requests(tmp_path: Path) -> None:
    _attacked(tmp_path, 0, 300)


@pytest.mark.slow
def test_ten_thousand_bad_requests(tmp_path: Path) -> None:
    growth = _attacked(tmp_path, 3000, 10_000, IDLE_S + 3)
    print(f"{growth / 2**20:.1f} MiB more")
    assert growth < 8 << 20
