"""The views of a search: what they say, equal text for equal results, and names that cannot break out of a page."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from pipeline.report import search_words
from pipeline.report.search_page import render_search_page
from pipeline.report.search_terminal import render_search
from pipeline.results.searched import (
    Confirmed,
    Effort,
    Missed,
    Point,
    SearchedTrial,
    SearchResult,
    Sought,
    TrainedEngine,
    Value,
)

EVIL = "<script>alert(1)</script>\x1b[31m\u202e"


def _trial(number: int, state: str = "finished", **more: object) -> SearchedTrial:
    values = {"reason": "", "fix": "", "epochs": 4, "val_top1": [50.0, 55.5, 60.0, 61.0 + number]}
    settings = {"student.model": "figkd/dsconv_nano", "distill.lr": 0.1 * number + 0.123456789}
    return SearchedTrial.model_validate(
        {"number": number, "settings": settings, "state": state, "seconds": 3.0, "failures": []}
        | values
        | more
    )


def _point(number: int, precision: str, ms: float, front: int | None, **more: object) -> Point:
    values = {
        "val_top1": Value(value=61.0 + number, low=58.0, high=65.0),
        "latency_p50_ms@cpu": Value(value=ms, low=0.9 * ms, high=1.1 * ms),
    }
    found = {"id": f"t{number:04d}/{precision}", "trial": number, "precision": precision, "values": values}
    return Point.model_validate(found | {"front": front} | more)


def _result() -> SearchResult:
    engine = TrainedEngine(
        target="cpu", test_top1=60.5, test_low=58.4, test_high=62.6, n=2100, engine_mb=0.02,
        latency_p50_ms=Value(value=0.31, low=0.30, high=0.33),
        misses=[Missed(metric="top1", target="cpu", side="min", limit=62, value=60.5)],
    )  # fmt: skip
    missed = Missed(metric="latency_p50_ms", target="cpu", side="max", limit=1, value=1.4)
    return SearchResult(
        name="students", base="demo", created="2026-01-02T03:04:05Z", sampler="tpe",
        objectives=[
            Sought(name="val_top1", metric="top1", target="", direction="max", limit=62),
            Sought(name="latency_p50_ms@cpu", metric="latency_p50_ms", target="cpu", direction="min", limit=1),
        ],
        space={"student.model": "figkd/dsconv_nano", "distill.lr": "0.1 to 1, logarithmic"},
        seeds=1, rungs=[1, 2, 4], validation_images=500,
        trials=[
            _trial(0), _trial(1), _trial(2, "paused", val_top1=[40.0], epochs=1),
            _trial(3, "excluded", val_top1=[], epochs=0, reason="untrained, it misses the budgets"),
            _trial(4, "failed", val_top1=[], epochs=0, reason="the loss is nan", fix="lower the learning rate"),
        ],
        points=[
            _point(1, "fp32", 0.8, 1, confirmed=Confirmed(config="students-t0001-fp32", engines=[engine])),
            _point(0, "int8", 0.3, 2, confirmed=Confirmed(config="students-t0000-int8", failure="no disk")),
            _point(0, "fp32", 1.4, None, misses=[missed]),
        ],
        effort=Effort(epochs=9, epochs_of_everything=20, training_seconds=15, shared_seconds=9),
        cpu="a CPU", gpu="none",
    )  # fmt: skip


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
    page = render_search_page(_result())
    said = _text(page).replace("\N{NO-BREAK SPACE}", " ")
    for expected in (
        "9 epochs of student training; everything in full takes 20: 2.2 times as many",
        "58.00 to 65.00",
        "% of n, chose nothing",
        "median latency 1.400 ms on cpu, at most 1 ms",
        "top-1 60.50 % on cpu, at least 62 %",
        "the loss is nan; fix: lower the learning rate",
        "1 of 5 trials failed",
        "The intervals of all accuracies on the front overlap",
        "1 → 2 → 4",
        "0.22346",
    ):
        assert expected in said, expected
    assert page.count("<svg") == 2 and page == render_search_page(_result())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits(width: int) -> None:
    """Lines break between values; no number is cut."""
    said = _printed(_result(), width)
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
    result = _result()
    points = [p.model_copy(update={"front": None}) for p in result.points]
    missed = result.model_copy(update={"points": points})
    assert "Nothing meets the budgets: 3 points of 5 trials" in _text(render_search_page(missed))
    nothing = result.model_copy(update={"points": []})
    assert search_words.headline(nothing).startswith("No trial came to its end: 1 excluded untrained")
    assert "<svg" in render_search_page(nothing) and "No trial came to its end" in _printed(nothing, 80)


def test_one_objective_has_no_front_to_draw() -> None:
    """Accuracy alone: the halving is drawn, the best point is the front."""
    result = _result()
    points = [p.model_copy(update={"values": {"val_top1": p.values["val_top1"]}}) for p in result.points]
    alone = result.model_copy(update={"objectives": result.objectives[:1], "points": points})
    assert render_search_page(alone).count("<svg") == 1


def test_hostile_texts_stay_texts() -> None:
    """Settings, reasons and names come from files."""
    result = _result()
    trials = [_trial(0, settings={EVIL: EVIL}, reason=EVIL, fix=EVIL), *result.trials[1:]]
    page = render_search_page(result.model_copy(update={"trials": trials, "name": EVIL, "base": EVIL}))
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page
