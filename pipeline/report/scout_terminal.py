"""The tables of `figkd-pipeline scout`: one for each target, then what fits and what could not be measured."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from pipeline.config.schema import Budgets
from pipeline.core.layout import Cell, Column, Grid, Prose
from pipeline.report import numbers, scout_words
from pipeline.report.terminal import TONE_MARK, TONE_STYLE
from pipeline.results.rows.scouted import ScoutDocument, ScoutRow

_MOST_ROWS = 60
_COLUMNS = (
    Column("candidate"),
    Column("engine"),
    Column("M par.", right=True, said="{} M parameters"),
    Column("p50 ms", right=True, said="p50 {} ms"),
    Column("p99 ms", right=True, said="p99 {} ms"),
    Column("MB", right=True, said="{} MB"),
    Column("RAM MB", right=True, said="{} MB of memory"),
    Column("budgets"),
)
_BLANK = Prose(Text())


def render_scouting(document: ScoutDocument, budgets: Budgets) -> RenderableType:
    """The tables, the fastest first; from 60 columns up."""
    parts: list[RenderableType] = []
    for name, rows in scout_words.by_target(document.rows).items():
        where = f" on {rows[0].device}" if rows[0].device else ""
        parts += [
            Grid(
                _COLUMNS,
                [_row(row, budgets) for row in rows[:_MOST_ROWS]],
                f"{name}: {rows[0].backend}{where}",
            )
        ]
        if len(rows) > _MOST_ROWS:
            parts.append(Prose(Text(f"and {len(rows) - _MOST_ROWS:,} slower ones, in scout.json")))
        parts.append(_BLANK)
    return Group(
        *parts, *_notes(document), Prose(Text(scout_words.headline(document, budgets), style="bold"))
    )


def _row(row: ScoutRow, budgets: Budgets) -> list[Cell]:
    tone, _ = scout_words.VERDICTS[scout_words.verdict(row, budgets)]
    said = scout_words.budgets_line(row, budgets)
    return [
        row.candidate.id,
        scout_words.engine(row),
        numbers.fixed(None if row.parameters is None else row.parameters / 1e6, 3),
        numbers.ms(row.p50_ms),
        numbers.ms(row.p99_ms),
        _mb(row.engine_bytes),
        numbers.fixed(None if row.memory_bytes is None else row.memory_bytes / 1e6, 1),
        Text(f"{TONE_MARK[tone]} {said}", style=TONE_STYLE[tone]),
    ]


def _mb(size: int | None) -> str:
    return numbers.mb(None if size is None else size / 1e6)


def _notes(document: ScoutDocument) -> Iterator[Prose]:
    for who, reason, fix in scout_words.reasons(document.rows):
        said = f"{who}: {reason}{f' ({fix})' if fix else ''}"
        yield Prose(Text.assemble(("not timed: ", "yellow"), said), hang=2)
    for caution in scout_words.cautions(document):
        yield Prose(Text.assemble(("note: ", "yellow"), caution), hang=2)
