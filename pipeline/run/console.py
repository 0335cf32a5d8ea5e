"""What a person sees while a run goes on: a bar a step on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.progress import Progress, Task, TaskID
from rich.text import Text

from export.terminal import one_line
from figkd.progress import Progress as Callback
from pipeline.core.errors import PipelineError
from pipeline.core.layout import Prose
from pipeline.core.terminal import Filtered, stderr

_PLAIN_EVERY_S = 15.0
_STEP_COLUMNS = 16
_BAR_COLUMNS = 28
_SHORTEST_BAR = 6
_STATE_COLUMNS = 7
_SUMMARY_AT = 35


class ConsoleInterface:
    """Implements `pipeline.run.conductor.Interface` with rich.

    Args:
        verbosity: -1 shows errors only, 0 steps, 1 also reasons and artifact paths.
    """

    def __init__(self, verbosity: int = 0) -> None:
        self.screen = stderr()
        self.verbosity = verbosity
        self._times = Progress(console=self.screen.console)  # never started: it keeps the time of each step
        self._live: Live | None = None
        self._tasks: dict[str, TaskID] = {}
        self._guard = threading.Lock()

    def step_started(self, step: str, reason: str) -> Callback:
        """Open a bar (on a terminal) or say that the step starts."""
        if self.verbosity < 0:
            return lambda done, total, note: None
        if self.verbosity > 0 and reason:
            self.screen.say(f"{step}: {reason}", hang=_STATE_COLUMNS)
        with self._guard:
            task = self._tasks[step] = self._times.add_task(step, total=None, note="")
        if not self.screen.console.is_terminal:
            self.screen.say(f"{step:<{_STEP_COLUMNS}} started", label="  ...  ")
            return self._plain(task)
        with self._guard:
            if self._live is None:
                self._live = Live(
                    get_renderable=self._bars,
                    console=self.screen.console,
                    transient=True,
                    refresh_per_second=10,
                )
                self._live.start()
        return lambda done, total, note: self._advance(task, done, total, note)

    def _advance(self, task: TaskID, done: int, total: int, note: str) -> None:
        self._times.update(task, completed=done, total=total or None, note=note)

    def _bars(self) -> Filtered:
        width = self.screen.console.width
        return Filtered(Group(*(line for task in self._times.tasks for line in bar(task, width))))

    def _plain(self, task: TaskID) -> Callback:
        last = time.monotonic()

        def show(done: int, total: int, note: str) -> None:
            nonlocal last
            self._advance(task, done, total, note)
            now = time.monotonic()
            if now - last >= _PLAIN_EVERY_S:
                last = now
                share = f"{100 * done // total:3d} %" if total else ""
                for known in (t for t in self._times.tasks if t.id == task):
                    said = ", ".join(filter(None, (one_line(note), _left(known))))
                    name = f"{known.description:<{_STEP_COLUMNS}}"
                    self.screen.say(f"{name} {share} {said}".rstrip(), label="       ")

        return show

    def close(self) -> None:
        """Take the bars off the screen."""
        with self._guard:
            if self._live is not None:
                self._live.stop()
            self._live = None
            for task in self._tasks.values():
                self._times.remove_task(task)
            self._tasks.clear()

    def _end(self, step: str) -> None:
        """Take one bar off the screen: steps of several devices run at the same time."""
        with self._guard:
            task = self._tasks.pop(step, None)
            if task is not None:
                self._times.remove_task(task)
        if not self._tasks:
            self.close()

    def step_finished(self, step: str, summary: str, seconds: float, artifact: Path) -> None:
        """State, time, what came out."""
        self._end(step)
        if self.verbosity >= 0:
            self._line("done", "green", f"{step:<{_STEP_COLUMNS}} {seconds:7.1f} s  {summary}")
        if self.verbosity > 0:
            self.screen.say(str(artifact), indent=_STATE_COLUMNS)

    def step_cached(self, step: str, summary: str) -> None:
        """Nothing to do."""
        if self.verbosity >= 0:
            self._line("cached", "cyan", f"{step:<{_STEP_COLUMNS}}            {summary}")

    def step_failed(self, step: str, error: PipelineError) -> None:
        """A target's step failed; the others go on."""
        self._end(step)
        self._line("failed", "red", f"{step:<{_STEP_COLUMNS}} {error.head}", hang=_STATE_COLUMNS)
        if error.fix:
            self.screen.say(error.fix, label="  fix: ")

    def note(self, text: str) -> None:
        """Something worth a line."""
        if self.verbosity >= 0:
            self._line("note", "yellow", text, hang=_STATE_COLUMNS)

    def _line(self, state: str, colour: str, text: str, hang: int = _SUMMARY_AT) -> None:
        self.screen.say(f"{'':<{_STATE_COLUMNS - len(state)}}{text}", label=state, style=colour, hang=hang)


def bar(task: Task, width: int) -> list[Prose]:
    """A step's lines while it runs: name, bar, count, time so far and left; its note beside, else below.

    What a line has no room for goes: first the bar is shorter, then it is absent. Nothing is cut.
    """
    share = task.percentage / 100 if task.total else 0.0
    counts = f"{task.completed:.0f}/{task.total:.0f}" if task.total else ""
    times = ", ".join(filter(None, (_clock(task.elapsed), _left(task))))
    parts = [f"{one_line(task.description):<{_STEP_COLUMNS}}", "", counts, times]
    note = one_line(str(task.fields.get("note", "")))
    taken = sum(cell_len(part) + 1 for part in parts if part)
    beside = bool(note) and taken + 1 + _SHORTEST_BAR + 1 + cell_len(note) < width
    room = width - 1 - taken - (cell_len(note) + 1 if beside else 0) - 1
    length = min(_BAR_COLUMNS, room) if room >= _SHORTEST_BAR else 0
    filled = round(share * length)
    line = Text.assemble(
        f"{parts[0]} ", ("━" * filled, "green"), ("─" * (length - filled), "dim"), " " if length else "",
        " ".join(filter(None, parts[2:])), (f" {note}" if beside else "", "dim"),
    )  # fmt: skip
    line.rstrip()
    lines = [Prose(line, hang=2)]
    return lines if beside or not note else [*lines, Prose(Text(note, style="dim"), hang=2, indent=2)]


def _left(task: Task) -> str:
    """The time that a step still takes, where it can be told from what it has done."""
    return f"{clock} left" if task.total and (clock := _clock(task.time_remaining)) else ""


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
