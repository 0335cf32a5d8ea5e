"""A self-test that fails, hangs, eats memory or forks ends within its limits, with one clear reason."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from export.runtime.install.child import Limits, run_limited
from export.runtime.install.errors import Environment, TakenBack


def _run(code: str, limits: Limits = Limits()) -> str:  # noqa: B008
    return run_limited([sys.executable, "-c", code], limits)


def test_what_it_prints_is_given_back() -> None:
    assert _run("print('fine')") == "fine\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import sys; print('label 3'); print('expected 5'); sys.exit(1)",
            r"failed: expected 5 \(exit code 1\)",
        ),
        ("import os; os.abort()", r"failed: no word \(signal 6\)"),
        ("import sys; print('\\x1b[31mred'); sys.exit(2)", r"failed: \\x1b\[31mred \(exit code 2\)"),
        ("raise SystemExit('x' * 100_000)", r"failed: x{300} \(exit code 1\)"),
    ],
)
def test_the_last_line_is_the_reason(code: str, reason: str) -> None:
    with pytest.raises(TakenBack, match=reason):
        _run(code)


def test_it_does_not_take_longer_than_it_may() -> None:
    begun = time.monotonic()
    with pytest.raises(TakenBack, match=r"took longer than 0\.5 s"):
        _run("import time; time.sleep(60)", Limits(seconds=0.5))
    assert time.monotonic() - begun < 5


def test_it_does_not_take_more_memory_than_it_may() -> None:
    with pytest.raises(TakenBack, match="took more than 100 MB of memory"):
        _run("import time; x = b'1' * 300_000_000; time.sleep(60)", Limits(seconds=30, megabytes=100))


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    """Also where it leaves the pipe open in a grandchild."""
    mark = tmp_path / "pid"
    code = f"import subprocess; p = subprocess.Popen(['sleep', '60']); open({str(mark)!r}, 'w').write(str(p.pid))"
    begun = time.monotonic()
    _run(code)
    stat = Path(f"/proc/{mark.read_text()}/stat")
    with contextlib.suppress(OSError):  # it has ended
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() - begun < 30
            time.sleep(0.05)


def test_a_flood_of_output_is_cut() -> None:
    assert len(_run("print('x' * 10_000_000)")) <= 2 * 64 * 1024


def test_it_gets_no_input_and_no_open_files(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    code = f"import sys, os; print(sys.stdin.read() == '', os.path.exists('/proc/self/fd/{handle}'))"
    assert _run(code) == "True False\n"
    os.close(handle)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(Environment, match="cannot be started: No such file"):
        run_limited(["/nowhere/python"], Limits())
