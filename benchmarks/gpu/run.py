"""Have checks done in processes with deadlines, and keep a summary on disk that is true at every moment."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.checks import STATES, Check, Found, Options
from benchmarks.gpu.worker import serve
from export.machine import machine_facts
from export.runtime.files import write_json

START = 60.0
"""Seconds for a process to import what it needs and to find the GPU."""
_SPAWN = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
_LOG_BYTES = 3000


class Worker:
    """A process that does the checks of a group."""

    def __init__(self, check: Check, options: Options, log: Path) -> None:
        self.group, self._log, self._busy = check.group, log, True
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=serve, args=(theirs, check.group, check.module, options, log), name=check.group
        )
        self._process.start()
        theirs.close()

    def answer(self, seconds: float) -> Found:
        """What it says next; that it failed if it ends or takes longer."""
        try:
            if self._pipe.poll(seconds):
                found = dict(json.loads(self._pipe.recv()))
                self._busy = False
                return found
            why, late = f"not done within {seconds:.3g} s", True
        except (EOFError, ConnectionError):
            self._process.join(5)
            why, late = f"its process ended with {self._process.exitcode}", False
        last = self._log.read_bytes()[-_LOG_BYTES:].decode(errors="replace") if self._log.is_file() else ""
        return {"state": "failed", "why": why, "broke": True, "late": late, "found": {"log": last}}

    def ask(self, name: str) -> None:
        """Have a check done."""
        self._busy = True
        with contextlib.suppress(BrokenPipeError):  # the answer says what happened
            self._pipe.send(name)

    def close(self) -> None:
        """End it, and what it started."""
        self._pipe.close()  # which ends it, if it waits for the next check
        self._process.join(0 if self._busy else 2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid or 0, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def run(checks: Sequence[Check], options: Options, out: Path, seconds: float) -> Found:
    """Do the checks for at most so many seconds; the summary, which is also in `out`/gpu_check.json all along.

    An interruption (SIGTERM, SIGINT) ends the checks, not the summary.
    """
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    summary = _Summary(checks, options, out, seconds)
    workers = _Workers(options, work, summary)
    try:
        with _interruptible():
            for check in checks:
                if summary.left > 0:
                    summary.begin(check)
                    summary.end(check, workers.do(check))
                else:
                    summary.end(check, {"state": "not run", "why": summary.over})
    except KeyboardInterrupt:
        summary.cut()
    finally:
        workers.close()
        shutil.rmtree(work, ignore_errors=True)
    return summary.finish()


class _Workers:
    """One process after the other: a new one for each group, and after a check that broke the last one."""

    def __init__(self, options: Options, work: Path, summary: _Summary) -> None:
        self._options, self._work, self._summary = options, work, summary
        self._worker: Worker | None = None
        self._missing: dict[str, Found] = {}

    def do(self, check: Check) -> Found:
        """What a check answers."""
        if self._worker is not None and self._worker.group != check.group:
            self.close()
        answer = self._missing.get(check.group) or self._started(check)
        if answer["state"] == "ready" and self._worker is not None:
            self._worker.ask(check.name)
            answer = self._worker.answer(self._summary.allowed(check.seconds))
        if answer.get("broke"):  # perhaps the GPU's state, too
            self.close()
        return answer

    def close(self) -> None:
        """End the process that there is."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _started(self, check: Check) -> Found:
        if self._worker is not None:
            return {"state": "ready"}
        folder = self._work / check.group
        folder.mkdir(exist_ok=True)
        options = replace(self._options, folder=folder)
        self._worker = Worker(check, options, self._work / f"{check.group}.log")
        answer = self._worker.answer(self._summary.allowed(START))
        self._summary.know(answer.get("facts", {}))
        if answer["state"] == "not run":
            self._missing[check.group] = answer
        return answer


@contextlib.contextmanager
def _interruptible() -> Any:
    """SIGTERM as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Summary:
    """What is known of the checks so far, on disk and on standard output."""

    def __init__(self, checks: Sequence[Check], options: Options, out: Path, seconds: float) -> None:
        self._path, self._began, self._seconds = out / "gpu_check.json", time.perf_counter(), seconds
        self._rows: dict[str, Found] = {
            check.title: {"name": check.title, "state": "not run", "why": "not reached"} for check in checks
        }
        self._about: Found = {
            "what": "checks on a GPU, in order of value",
            "command": " ".join(["python", *sys.argv]),
            "device": options.device,
            "tiny": options.tiny,
            "limit_s": seconds,
            "machine": machine_facts(),
        }
        self._said, self._started = "", self._began
        self._write("running")

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self._seconds - (time.perf_counter() - self._began)

    @property
    def over(self) -> str:
        """Why a check was not run, when there is no time left."""
        return f"the {self._seconds / 60:.3g} minutes are over"

    def allowed(self, seconds: float) -> float:
        """So many seconds, or what is left of the run."""
        return max(0.1, min(seconds, self.left))

    def know(self, facts: Found) -> None:
        """Take in what a process found out about the machine."""
        self._about["machine"] |= facts

    def begin(self, check: Check) -> None:
        """A check begins: whoever reads the file of a run that was cut sees which."""
        self._started = time.perf_counter()
        self._rows[check.title] |= {"state": "running", "why": "the run was cut here"}
        self._write("running")

    def end(self, check: Check, answer: Found) -> None:
        """A check is done."""
        if answer.get("late") and self.left <= 0:  # the run's limit, not its own
            answer = {"state": "not run", "why": self.over}
        row = self._rows[check.title]
        row |= {"seconds": time.perf_counter() - self._started}
        row |= {key: answer[key] for key in ("state", "why", "about", "found") if key in answer}
        self._write("running")
        # A group that cannot be run says so once.
        said = f"{check.group}: {row['why']}" if row["state"] == "not run" else ""
        if not said or said != self._said:
            note = " ".join((row["why"] or row.get("found", {}).get("note", "")).split())
            print(
                f"{row['state']:<14} {check.title:<28} {row.get('seconds', 0.0):6.1f} s  {note[:300]}",
                flush=True,
            )
        self._said = said

    def cut(self) -> None:
        """The run was interrupted; what was running did not end."""
        for row in self._rows.values():
            if row["state"] == "running":
                row |= {"state": "not run", "why": "interrupted"}

    def finish(self) -> Found:
        """The whole summary, its state and counts, and the last line."""
        states = [row["state"] for row in self._rows.values()]
        counts = {state: states.count(state) for state in STATES}
        state = "failed" if counts["failed"] else "not run" if counts["not run"] else "passed"
        found = self._write(state, counts)
        failed = ", ".join(name for name, row in self._rows.items() if row["state"] == "failed")
        seconds = time.perf_counter() - self._began
        print(
            f"{state}: {', '.join(f'{number} {name}' for name, number in counts.items())}"
            f"{f' (failed: {failed})' if failed else ''}; {seconds:.0f} s; {self._path}",
            flush=True,
        )
        return found

    def _write(self, state: str, counts: Found | None = None) -> Found:
        found = {
            **self._about, "state": state, "counts": counts, "seconds": time.perf_counter() - self._began,
            "checks": list(self._rows.values()),
        }  # fmt: skip
        write_json(self._path, found)
        return found
