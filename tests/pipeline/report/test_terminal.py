"""The closing table: one row an engine, 100 columns, no markup from names."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from sample import sample, sample_bare, sample_crowded, sample_missed, sample_useless

from pipeline.report.terminal import render_table
from pipeline.results.choice import Reason
from pipeline.results.result import Result


def printed(result: Result, width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(render_table(result))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    "result", [sample(), sample_missed(), sample_crowded(), sample_bare(), sample_useless()]
)
def test_fits_in_100_columns_with_a_row_for_every_engine(result: Result) -> None:
    """Nothing is cut at 100 columns: no ellipsis, no id that is missing."""
    lines = printed(result)
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    for engine in result.engines:
        assert any(line.split()[:1] == [engine.id] for line in lines)


def test_row_says_what_the_page_says() -> None:
    """State, size, accuracy with its change, latency, throughput and the missed budget by how much."""
    row = next(line for line in printed(sample()) if line.startswith("cpu/fp16"))
    for text in ("ran", "0.030", "67.10 (−0.04)", "0.231 / 0.296", "4,264", "p99 0.096 ms over"):
        assert text in row
    rtx = next(line for line in printed(sample()) if line.startswith("rtx/int8-SM89"))
    assert "built" in rtx and "66.62†" in rtx and "1 open" in rtx


def test_ends_with_what_to_ship_and_why() -> None:
    """Below the table: reasons of what did not run, then the decision, then the verdict."""
    text = "\n".join(printed(sample()))
    assert "n = 8,412 samples an engine" in text and "boundary `engine`" in text
    assert "rtx/fp32-SM86 and 8 more built, not run: no NVIDIA GPU on this machine" in text
    assert "✓ cpu: ship cpu/int8" in text
    assert text.rstrip().splitlines()[-1].startswith("PASS")
    missed = "\n".join(printed(sample_missed()))
    assert "fix: pip install 'figkd-pipeline[tensorrt]'" in missed
    assert "✗ validate@rtx: the engine returned 3 rows that are not finite" in missed
    assert missed.rstrip().splitlines()[-1].startswith("BUDGET MISSED")


def test_images_that_were_left_out_are_counted() -> None:
    """A score on fewer images than there are files says so; where nothing is missing, nothing is said."""
    assert "left out" not in "\n".join(printed(sample()))
    result = sample()
    result.data["skipped"] = [
        {"split": "test", "file": f"{i}.jpg", "reason": "empty file"} for i in range(1200)
    ]
    text = "\n".join(printed(result))
    assert (
        "1,200 images could not be decoded and were left out; report.html and result.json list them" in text
    )


def test_names_are_not_markup() -> None:
    """`[bold]` in a message of somebody's library is text."""
    result = sample()
    result.shipping[0].reason = Reason(code="recorded", text="[bold]x[/bold] [/nonsense]")
    result.engines[0].id = "cpu/[red]"
    text = "\n".join(printed(result))
    assert "[bold]x[/bold] [/nonsense]" in text and "cpu/[red]" in text


def test_a_disturbed_measurement_is_not_called_certain() -> None:
    """`± 0.1 %` beside times that others disturbed would be a lie."""
    assert "medians are known to" in "\n".join(printed(sample()))
    text = "\n".join(printed(sample_useless(), 200))
    assert "medians are known to" not in text
    assert (
        "the times of cpu are less sure than their intervals say: other processes used 1.7 CPU cores" in text
    )
    assert text.rstrip().splitlines()[-1].startswith("NO BETTER THAN GUESSING  Do not ship it")


def test_no_goal_is_not_called_a_pass() -> None:
    """The last lines say what is best so far, and how to set a goal."""
    text = "\n".join(printed(sample(verdict="no_goal"), 160))
    assert "best so far cpu/int8" in text and "budgets: {top1: {min: 90}}" in text
    assert text.rstrip().splitlines()[-1].startswith("NO GOAL SET")
