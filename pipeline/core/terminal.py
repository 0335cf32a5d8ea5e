"""The two streams as a person sees them: all that the pipeline prints leaves here, and is filtered once, here."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Text

from export.terminal import ascii_json, visible
from pipeline.core.errors import PipelineError
from pipeline.core.layout import Prose

# A file or a pipe has no width: nothing is wrapped there, and every table fits.
_NO_WIDTH = 10**5
# Deeper than the label of a fix: no line within a message can pass for one.
_ERROR_AT = 7


@dataclass(frozen=True)
class Filtered:
    """Whatever can be printed, its text passed through `visible`; styles and cursor movements are ours and stay."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The content's segments."""
        for segment in console.render(self.content, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as the content."""
        return Measurement.get(console, options, self.content)


class Screen:
    """Stdout or stderr; lines wrap at words on a terminal, and stay whole elsewhere."""

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        self.console = Console(file=stream, highlight=False, width=None if stream.isatty() else _NO_WIDTH)

    def show(self, content: RenderableType) -> None:
        """Print a table, a `Prose` or whatever rich can print."""
        self.console.print(Filtered(content), crop=False, no_wrap=True, overflow="ignore", end="")

    def say(
        self, text: str | Text, *, label: str = "", style: str = "", hang: int | None = None, indent: int = 0
    ) -> None:
        """Print a text after a label in a style; what does not fit in the line goes on below its beginning."""
        body = text if isinstance(text, Text) else Text(visible(text))
        hang = len(label) if hang is None else hang
        self.show(Prose(Text.assemble((label, style), body), hang=hang, indent=indent))

    def verbatim(self, text: str) -> None:
        """Print a document as it is: its lines are for programs, too."""
        self.console.file.write(visible(text))

    def error(self, error: PipelineError, label: str = "error: ") -> None:
        """What happened, where, and the fix."""
        self.say(error.head, label=label, hang=_ERROR_AT)
        if error.fix:
            self.say(error.fix, label="  fix: ", hang=_ERROR_AT)


def stdout() -> Screen:
    """Results."""
    return Screen()


def stderr() -> Screen:
    """Errors, notes and progress."""
    return Screen(stderr=True)


def print_json(document: str) -> None:
    """One JSON document on stdout, in ASCII."""
    sys.stdout.write(ascii_json(document) + "\n")
