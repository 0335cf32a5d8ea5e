"""What a person sees while a run goes on: a bar a step on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pipeline.errors import PipelineError
from pipeline.stages.base import Progress as Callback

_PLAIN_EVERY_S = 15.0


class ConsoleInterface:
    """Implements `pipeline.conductor.Interface` with rich.

    Args:
        verbosity: -1 shows errors only, 0 steps, 1 also reasons and artifact paths.
    """

    def __init__(self, verbosity: int = 0) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.verbosity = verbosity
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._guard = threading.Lock()

    def step_started(self, step: str, reason: str) -> Callback:
        """Open a bar (on a terminal) or say that the step starts."""
        if self.verbosity < 0:
            return lambda done, total, note: None
        if self.verbosity > 0 and reason:
            self.console.print(f"[dim]{step}: {escape(reason)}[/dim]")
        if not self.console.is_terminal:
            self.console.print(f"  ...  {step:<16} started")
            return self._plain(step)
        with self._guard:
            if self._bars is None:
                self._bars = Progress(
                    SpinnerColumn(),
                    TextColumn("{task.description:<16}"),
                    BarColumn(bar_width=28),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    TextColumn("[dim]left[/dim]"),
                    TimeRemainingColumn(),
                    TextColumn("[dim]{task.fields[note]}[/dim]"),
                    console=self.console,
                    transient=True,
                )
                self._bars.start()
            bars = self._bars
            task = self._tasks[step] = bars.add_task(step, total=None, note="")

        def advance(done: int, total: int, note: str) -> None:
            bars.update(task, completed=done, total=total or None, note=escape(note))

        return advance

    def _plain(self, step: str) -> Callback:
        last = time.monotonic()

        def show(done: int, total: int, note: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _PLAIN_EVERY_S:
                last = now
                share = f"{100 * done // total:3d} %" if total else ""
                self.console.print(f"       {step:<16} {share} {escape(note)}", soft_wrap=True)

        return show

    def close(self) -> None:
        """Take the bars off the screen."""
        with self._guard:
            if self._bars is not None:
                self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _end(self, step: str) -> None:
        """Take one bar off the screen: steps of several devices run at the same time."""
        with self._guard:
            task = self._tasks.pop(step, None)
            if self._bars is not None and task is not None:
                self._bars.remove_task(task)
        if not self._tasks:
            self.close()

    def step_finished(self, step: str, summary: str, seconds: float, artifact: Path) -> None:
        """State, time, what came out."""
        self._end(step)
        if self.verbosity >= 0:
            place = f"\n       [dim]{escape(str(artifact))}[/dim]" if self.verbosity > 0 else ""
            self.console.print(
                f"[green]done[/green]   {step:<16} {seconds:7.1f} s  {escape(summary)}{place}", soft_wrap=True
            )

    def step_cached(self, step: str, summary: str) -> None:
        """Nothing to do."""
        if self.verbosity >= 0:
            self.console.print(f"[cyan]cached[/cyan] {step:<16}            {escape(summary)}", soft_wrap=True)

    def step_failed(self, step: str, error: PipelineError) -> None:
        """A target's step failed; the others go on."""
        self._end(step)
        self.console.print(f"[red]failed[/red] {step:<16} {escape(str(error))}", soft_wrap=True)

    def note(self, text: str) -> None:
        """Something worth a line."""
        if self.verbosity >= 0:
            self.console.print(f"[yellow]note[/yellow]   {escape(text)}", soft_wrap=True)
