"""What Linux tells about processes, memory and boots. Unknown is said as such, never guessed."""

from __future__ import annotations

import os
import signal
import time
from typing import Iterator

MARK = "FIGKD_JOB"


def boot_id() -> str:
    """Changes with every boot; empty where the system does not say."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def uptime() -> float:
    """Seconds since boot, which no correction of the clock changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def oom_kills() -> int:
    """Processes that the kernel has killed because memory ran out since boot; 0 where it does not count."""
    for line in _read("/proc/vmstat").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def process_state(pid: int) -> str:
    """The kernel's letter for a process: R, S, D, T (stopped), Z ...; empty if there is none."""
    text = _read("/proc/{}/stat".format(pid))
    return text.rpartition(")")[2].split()[0] if ")" in text else ""


def children(pid: int) -> list[int]:
    """Children of a process; none where the kernel does not list them."""
    return [int(word) for word in _read("/proc/{0}/task/{0}/children".format(pid)).split()]


def command_line(pid: int) -> str:
    """The words of a process's command, separated by spaces."""
    return _read("/proc/{}/cmdline".format(pid)).replace("\0", " ")


def marked(mark: str) -> Iterator[int]:
    """Processes of this user that carry a job's mark in their environment: the job and all that it started."""
    wanted = "{}={}\0".format(MARK, mark)
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and wanted in _read("/proc/{}/environ".format(name)):
            yield int(name)


def kill_marked(mark: str, limit_s: float = 10.0) -> bool:
    """Kill all processes with a mark; whether none is left."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        alive = [pid for pid in marked(mark) if process_state(pid) not in ("", "Z")]
        if not alive:
            return True
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    return False


def free_bytes(folder: str) -> int:
    """Bytes that this user may still write on the disk of a folder."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
