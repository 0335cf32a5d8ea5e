"""The views of a search: what they say, equal text for equal results, and names that cannot break out of a page."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from search_sample import NETWORKS, searched, searched_crowded, trial

from pipeline.report import search_words
from pipeline.report.search_page import render_search_page
from pipeline.report.search_terminal import render_search
from pipeline.results.searched import SearchResult

EVIL = "<script>alert(1)</script>\x1b[31m\u202e"


def _text(page: str) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<svg.*?</svg>|<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    )


def _printed(result: SearchResult, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render_search(result), crop=False, no_wrap=True, overflow="ignore")
    return out.getvalue()


def test_the_page_says_what_was_found() -> None:
    """Front with intervals, test numbers marked as such, why trials were not trained, what it cost."""
    page = render_search_page(searched())
    said = _text(page).replace("\N{NO-BREAK SPACE}", " ")
    for expected in (
        "9 epochs of student training; everything in full takes 20: 2.2 times as many",
        "58.00 to 65.00",
        "% of 2,100, chose nothing",
        "median latency 1.400 ms on cpu, at most 1 ms",
        "top-1 60.50 % on cpu, at least 62 %",
        "the loss is nan; fix: lower the learning rate",
        "1 of 5 trials failed",
        "The intervals of all accuracies on the front overlap",
        "1 → 2 → 4",
        "0.22346",
    ):
        assert expected in said, expected
    assert page.count("<svg") == 2 and page == render_search_page(searched())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits(width: int) -> None:
    """Lines break between values; no number is cut."""
    said = _printed(searched(), width)
    assert max(map(len, said.splitlines())) <= width
    flat = re.sub(r"\s+", " ", said)
    for expected in (
        "62.00 (58.00 to 65.00)",
        "0.300 (0.270 to 0.330)",
        "2 points on the front of 5 trials.",
    ):
        assert expected in flat
    assert "t0004 failed: the loss is nan; fix: lower the learning rate" in flat


def test_without_a_front_the_reason_is_said() -> None:
    """All miss a budget; or nothing came to its end."""
    result = searched()
    points = [p.model_copy(update={"front": None}) for p in result.points]
    missed = result.model_copy(update={"points": points})
    assert "Nothing meets the budgets: 3 points of 5 trials" in _text(render_search_page(missed))
    nothing = result.model_copy(update={"points": []})
    assert search_words.headline(nothing).startswith("No trial came to its end: 1 excluded untrained")
    assert "<svg" in render_search_page(nothing) and "No trial came to its end" in _printed(nothing, 80)


def test_several_networks_and_targets() -> None:
    """A picture of the front for each objective of engines; the network stands beside the name of its point."""
    page = render_search_page(searched_crowded())
    assert page.count("<svg") == 3 and "The front: engine size on edge_camera_number_one" in page
    front = page[page.index('id="front"') : page.index('id="points"')]
    assert "student.model" not in front
    for number, network in enumerate(NETWORKS):
        assert re.search(
            rf'<th [^>]*>[^\n]*t{number:04d}/int8<span class="sub">{re.escape(network)}</span>', front
        )


def test_one_objective_has_no_front_to_draw() -> None:
    """Accuracy alone: the halving is drawn, the best point is the front."""
    result = searched()
    points = [p.model_copy(update={"values": {"val_top1": p.values["val_top1"]}}) for p in result.points]
    alone = result.model_copy(update={"objectives": result.objectives[:1], "points": points})
    assert render_search_page(alone).count("<svg") == 1


def test_hostile_texts_stay_texts() -> None:
    """Settings, reasons and names come from files."""
    result = searched()
    trials = [trial(0, settings={EVIL: EVIL}, reason=EVIL, fix=EVIL), *result.trials[1:]]
    page = render_search_page(result.model_copy(update={"trials": trials, "name": EVIL, "base": EVIL}))
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page
