"""A scouting's table and page: everything that was found stands in them, at any width, and nothing of it is markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from search_sample import BUDGETS, SCOUTED, scouted_row, scouting

from pipeline.config.schema import Budgets
from pipeline.report.scout_page import render_scout_page
from pipeline.report.scout_terminal import render_scouting


@pytest.mark.parametrize("width", [60, 80, 200])
def test_table(width: int) -> None:
    """Nothing is wider than the terminal; verdicts, reasons and the outcome are there."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render_scouting(SCOUTED, BUDGETS))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for said in (
        "figkd/dsconv_nano@32", "500.0", "fits", "but 2 ms is within its interval", "size 500.000 > 1 MB", "edge",
        "no ONNX form", "leave it out", "1 of 4 candidates fits the budgets on every target.",
        "fewer than 1,000 samples",
        "1 of 4 engines were timed while others", "noise",
    ):  # fmt: skip
        assert said in text, said
    assert "\x1b[31m" not in text


def test_page() -> None:
    """Two charts a target; what others wrote is text."""
    page = render_scout_page(SCOUTED, BUDGETS)
    assert page.count("<svg") == 4
    assert "<script>" not in page and "&lt;script&gt;" in page and "<b>odd" not in page
    assert "1 of 4 candidates fits the budgets on every target." in page
    assert page == render_scout_page(SCOUTED, BUDGETS)


def test_nothing_was_timed_or_nothing_is_asked() -> None:
    """Both are said; the page stands."""
    none = scouting(scouted_row("figkd/vgg8", p50=None, reason="no back end"))
    assert "None of 1 candidate could be timed." in render_scout_page(none, BUDGETS)
    assert "the config sets no budget" in render_scout_page(SCOUTED, Budgets())
