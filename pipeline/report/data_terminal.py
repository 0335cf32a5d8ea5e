"""The data on the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from pipeline.core.layout import Column, Grid, Prose
from pipeline.report import data_words, numbers
from pipeline.report.terminal import TONE_MARK, TONE_STYLE
from pipeline.results.data_summary import DataSummary

_LABEL = 18
_BLANK = Prose(Text())


def render_data(data: DataSummary) -> RenderableType:
    """Images by class, the summary, and what to worry about; from 60 columns up."""
    classes = data_words.class_table(data)
    splits = [Column(split, right=True, said=f"{{}} {split}") for split in classes.splits]
    table = Grid(
        [Column("class"), Column("output", right=True, said="output {}"), *splits],
        [[row.name, str(row.output), *map(numbers.count, row.images)] for row in classes.rows],
    )
    rest = [Prose(Text(classes.rest, style="dim"), hang=2)] if classes.rest else []
    facts = [
        Prose(Text.assemble(((fact.label if not number else "").ljust(_LABEL), "dim"), value), hang=_LABEL)
        for fact in data_words.facts(data)
        for number, value in enumerate(fact.values)
    ]
    worries = [
        Prose(Text.assemble((f"{TONE_MARK[w.tone]} ", TONE_STYLE[w.tone]), w.text), hang=2)
        for w in data_words.worries(data)
    ]
    return Group(table, *rest, _BLANK, *facts, *([_BLANK, *worries] if worries else []))
