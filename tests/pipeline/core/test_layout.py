"""Protects: every number stands whole at every width, and lines break only between words."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from pipeline.core.layout import Column, Grid, Prose, tight, wrap

NUMBER = re.compile(r"\d[\d,.]*\d|\d")


def printed(content: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(content, crop=False, end="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


WORDS = st.lists(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x3FF, categories=["L", "N", "P"]), min_size=1)
)


@given(WORDS, st.integers(8, 60), st.integers(0, 6))
@example(words=["000000:", "/", "0000000"], width=8, hang=0)
@example(words=["00:", "/", "000"], width=8, hang=0)
def test_lines_hold_whole_words_and_fit(words: list[str], width: int, hang: int) -> None:
    """All words in order; a line is too wide only where it is one word (or joined ones); none could hold one more."""
    text = " ".join(words)
    lines = [tight(text)[a:b] for a, b in wrap(text, width, hang)]  # what is joined depends on the whole text
    assert " ".join(lines).split() == text.split()
    for number, line in enumerate(lines):
        room = width - (hang if number else 0)
        assert cell_len(line) <= room or " " not in line
        if number + 1 < len(lines):
            following = lines[number + 1].split(" ", maxsplit=1)[0]
            assert cell_len(f"{line} {following}") > room


@pytest.mark.parametrize(
    "joined",
    [
        "48.10 pp",
        "1.19 points",
        "1 point",
        "0.096 ms",
        "n = 1,000",
        "± 0.8 %",
        "0.81 to 1.43",
        "0.049 / 0.296",
        "batch 8",
        "≤ 5 ms",
        "30 fps",
    ],
)
def test_a_number_stays_with_its_unit(joined: str) -> None:
    """At whatever column the line ends."""
    for before in range(1, 20):
        text = f"{'x' * before} {joined} short"
        assert any(joined in text[a:b] for a, b in wrap(text, 20))


def test_a_newline_in_a_text_begins_no_line_of_ours() -> None:
    """It goes on below the beginning of its text."""
    lines = printed(Prose(Text("error: device: a\nerror: b\n  fix: c"), hang=7), 80).splitlines()
    assert lines[0] == "error: device: a"
    assert all(line.startswith(" " * 7) for line in lines[1:])


COLUMNS = (
    Column("engine"), Column("median ms", right=True, said="median {} ms"),
    Column("p99 ms", right=True, said="p99 {} ms"),
    Column("images/s", right=True, said="{} images/s"), Column("budgets", below=True),
)  # fmt: skip
ROWS = [
    ["cpu/fp32", "123.456", "234.567", "12,345", [Text("✗ p99 0.096 ms over"), Text("✓ 3 met")]],
    ["cpu/a_rather_long_name-SM86", "0.049", "–", "18,631", "–"],
]


@pytest.mark.parametrize("width", range(40, 201, 4))
def test_a_grid_shows_every_value_whole_at_every_width(width: int) -> None:
    """As a table, as one with its last column below, or as blocks; nothing is cut and no line is too long."""
    text = printed(Grid(COLUMNS, ROWS), width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for said in ("cpu/fp32", "cpu/a_rather_long_name-SM86", "123.456", "234.567", "12,345", "0.049", "18,631",
                 "✗ p99 0.096 ms over", "✓ 3 met"):  # fmt: skip
        assert said in flat, text


def test_a_grid_drops_to_the_next_form_only_where_it_must() -> None:
    """Table, then the table with budgets below, then blocks with units."""
    forms = [printed(Grid(COLUMNS, ROWS), width).splitlines() for width in (100, 75, 50)]
    assert "budgets" in forms[0][0] and len(forms[0]) == 5
    assert "budgets" not in forms[1][0] and "cpu/fp32: ✗ p99 0.096 ms over, ✓ 3 met" in forms[1]
    assert forms[2][0].startswith("cpu/fp32: median 123.456 ms, p99 234.567 ms")
    assert "–" not in "".join(forms[2])


def test_a_name_with_a_newline_stays_in_its_row() -> None:
    """It is written out."""
    for cell in ("x\ncpu/fp32 PASS", Text("x\ncpu/fp32 PASS")):
        for width in (50, 120):
            lines = printed(Grid(COLUMNS, [[cell, "1.000", "2.000", "3", "–"]]), width).splitlines()
            assert not any(line.startswith("cpu/fp32") for line in lines)
            assert any(r"x\ncpu/fp32 PASS" in line for line in lines)
