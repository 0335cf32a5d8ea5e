"""Jobs for tests, put into the agent's archive beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.devices.archive import Archive, archive
from pipeline.devices.messages import Event, Job

AGENT = Path(__file__).parents[3] / "pipeline/devices/agent"

COUNT_JOB: Job[dict[str, Any]] = Job("count", dict[str, Any])
BREAK_JOB: Job[dict[str, Any]] = Job("break_", dict[str, Any])

# Counts to `count` with a pause between, says each number, leaves a file, and returns what it was asked.
COUNT = """
import time

def run(request, folder, emit):
    for number in range(request["count"]):
        emit({"progress": [number, request["count"], ""]})
        time.sleep(request["pause_s"])
    with open("out.bin", "wb") as file:
        file.write(b"x" * request.get("bytes", 10))
    return {"asked": request}
"""

# Does what goes wrong on devices.
BREAK = """
import os, signal, subprocess, time
from ..errors import JobError

def run(request, folder, emit):
    emit({"progress": [os.getpid(), 0, ""]})
    how = request["how"]
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "error":
        print("what the log says", flush=True)
        raise JobError("the engine is for another GPU", "build it here", "missing")
    if how == "defect":
        return {}["nothing"]
    if how == "fill":
        with open("big", "wb") as file:
            while True:
                file.write(b"x" * 65536)
    if how == "eat":
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20)))
    if how == "orphan":
        subprocess.Popen(["sleep", "300"])
        time.sleep(300)
    return {}
"""


def agent_for_tests(**more: str) -> Archive:
    """The agent with the jobs `count` and `break_`, and others by their source."""
    sources = {p.relative_to(AGENT).as_posix(): p.read_text() for p in AGENT.rglob("*.py")}
    jobs = {"count": COUNT, "break_": BREAK} | more
    return archive(sources | {f"jobs/{name}.py": text for name, text in jobs.items()})


def progress_of(event: Event) -> int:
    """The number that one of these jobs says."""
    assert event.progress is not None
    return event.progress[0]
