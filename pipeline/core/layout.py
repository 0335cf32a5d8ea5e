"""How text and tables fit a terminal of any width: lines break between words, and no number is ever cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from export.terminal import one_line, visible

_UNITS = r"%|ms|s|min|pp|points?|MB|MiB|GB|kB|B|fps|img/s|images/s|mJ|mJ/image|W|°C|times"
_JOINED = re.compile(
    rf"(?<=\d) (?=(?:{_UNITS})(?![\w/]))"  # a number and its unit
    r"|(?<=\bn) (?==)|(?<=\bn =) |(?<=[±≤≥]) (?=\d)|(?<=\bbatch) (?=\d)"
    r"|(?<=\d) (?=to [−+-]?\d)|(?<=\d to) (?=[−+-]?\d)|(?<=\d) (?=/ )|(?<= /) (?=\d)"  # ranges and pairs
)
# A text beside a wide label needs this many columns; where they are missing it goes on below the label.
_COLUMNS_BESIDE = 28
_BELOW_LABEL = 4
_NO_BREAK = "\N{NO-BREAK SPACE}"
_UNBOUNDED = 10**6
ABSENT = ("", "-", "–")
"""What a cell shows that has no value; blocks leave it out."""


def tight(text: str) -> str:
    """A number and its unit, `n = 100`, `± 0.1` and `1 / 2` held together by no-break spaces."""
    return _JOINED.sub(_NO_BREAK, text)


def wrap(text: str, width: int, hang: int = 0) -> list[tuple[int, int]]:
    """Where the lines of a text begin and end.

    Args:
        text: its newlines end lines.
        width: columns of a line. A longer word is not broken: the terminal wraps it.
        hang: columns that every line but the first is indented by, which count in `width`.
    """
    lines: list[tuple[int, int]] = []
    begin = 0
    for hard in text.split("\n"):
        joined = tight(hard)
        start = end = begin
        for word in re.finditer(r"^ *[^ ]*|[^ ]+", joined):
            room = width - (hang if lines else 0)
            stop = begin + word.end()
            if end > start and cell_len(text[start:stop]) > room:
                lines.append((start, end))
                start = begin + word.start()
            end = stop
        lines.append((start, end))
        begin += len(hard) + 1
    return lines


@dataclass(frozen=True)
class Prose:
    """A text that may have a label before it: wrapped at words, its further lines indented by `hang` columns."""

    text: Text
    hang: int = 0
    indent: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Whole lines."""
        text = _shown(self.text)
        width = options.max_width - self.indent
        longest = max(cell_len(word) for word in tight(text.plain).split(" "))
        beside = width - self.hang
        hang = self.hang if beside >= max(_COLUMNS_BESIDE, longest) else min(self.hang, _BELOW_LABEL)
        for number, (start, end) in enumerate(wrap(text.plain, width, hang)):
            yield Segment(" " * (self.indent + (hang if number else 0)))
            for segment in text[start:end].render(console):
                yield Segment(segment.text.replace(_NO_BREAK, " "), segment.style)
            yield Segment.line()


@dataclass(frozen=True)
class Column:
    """A column of a `Grid`.

    `said` is how a value stands in a block of its row; `below` marks what moves below a table that is too wide.
    """

    title: str
    right: bool = False
    said: str = "{}"
    below: bool = False


Cell = Text | str | Sequence[Text]
"""One value; a sequence stands one below the other."""


@dataclass(frozen=True)
class Grid:
    """Rows of values, the first of which names its row: a table where all of it fits, else a block for each row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The first form that fits: the table, the table without the columns marked `below`, blocks."""
        for kept in (self.columns, [column for column in self.columns if not column.below]):
            table = self._table(kept)
            unbounded = options.update(width=_UNBOUNDED)
            if console.measure(table, options=unbounded).maximum <= options.max_width:
                yield table
                if len(kept) < len(self.columns):
                    yield Segment.line()
                    yield from self._blocks([column for column in self.columns if column.below])
                return
        if self.title:
            yield Prose(Text(self.title))
        yield from self._blocks(self.columns[1:])

    def _table(self, kept: Sequence[Column]) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, title=self.title or None,
            title_justify="left",
        )  # fmt: skip
        for column in kept:
            table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
        for row in self.rows:
            cells = zip(self.columns, row, strict=True)
            table.add_row(*(Text("\n").join(_lines(cell)) for column, cell in cells if column in kept))
        return table

    def _blocks(self, columns: Sequence[Column]) -> Iterator[Prose]:
        for row in self.rows:
            cells = dict(zip(self.columns, row, strict=True))
            items = [
                Text.assemble(*_around(column.said, line))
                for column in columns
                for line in _lines(cells[column])
                if line.plain not in ABSENT
            ]
            for item in items:
                item.plain = item.plain.replace(" ", _NO_BREAK)  # lines break between values
            name = Text("\n").join(_lines(row[0]))
            yield Prose(Text.assemble(name, ": " if items else "", Text(", ").join(items)), hang=2)


def _around(said: str, value: Text) -> tuple[str, Text, str]:
    before, _, after = said.partition("{}")
    return before, value, after


def _lines(cell: Cell) -> list[Text]:
    if isinstance(cell, str):
        return [Text(one_line(cell))]
    if not isinstance(cell, Text):
        return [line for one in cell for line in _lines(one)]
    safe = one_line(cell.plain)
    return [cell if safe == cell.plain else Text(safe, style=cell.style)]


def _shown(text: Text) -> Text:
    safe = visible(text.plain)
    return text if safe == text.plain else Text(safe, style=text.style)
