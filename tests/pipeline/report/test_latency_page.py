"""Protects: the page of the command `benchmark` says who is faster, how sure that is, and acts on nobody's names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.report.latency_page import headline, labels, render_latency_page
from pipeline.results.compare import against
from pipeline.results.latency import BenchmarkDocument, BenchmarkRow, TimedEngine, Warned
from tests.pipeline.report.sample import latency

LOAD = [1.0, 1.3, 1.0, 2.0, 1.1, 1.0, 1.0, 1.5, 1.0, 1.0]


def _row(name: str, median: float, **other: Any) -> BenchmarkRow:
    fields = latency("engine", median, 2000, name).model_dump() | {"id": name}
    return BenchmarkRow.model_validate(fields | {"round_medians": [median * load for load in LOAD]} | other)


def _document(*rows: BenchmarkRow, **other: Any) -> BenchmarkDocument:
    known = [TimedEngine(id=row.id, backend="onnxruntime", mb=1.5, input_shape=[8, 8, 3]) for row in rows]
    fields: dict[str, Any] = {"created": "2026-01-31T09:26:53Z", "latency": rows, "engines": known} | other
    return BenchmarkDocument(**fields)


def test_the_fastest_is_named_with_the_distance_and_a_tie_is_called_one() -> None:
    """Not the first that was given."""
    found = _document(_row("a/net.onnx", 2.0), _row("b/net.onnx", 1.0))
    assert headline(found, labels(["a/net.onnx", "b/net.onnx"])) == (
        "b/net.onnx is the fastest: 1.000 ms median, boundary engine, batch 1. "
        "a/net.onnx takes 2.00 times as long (2.00 to 2.00)."
    )
    tie = _document(_row("x.onnx", 1.0), _row("y.onnx", 1.005))
    assert "y.onnx cannot be told apart" in headline(tie, labels(["x.onnx", "y.onnx"]))
    alone = _document(_row("x.onnx", 1.0))
    assert headline(alone, labels(["x.onnx"])) == "x.onnx: 1.000 ms median, boundary engine, batch 1."


def test_the_page_holds_distributions_intervals_engines_and_machine() -> None:
    """One chart and one table for what was measured alike; no other file, no script."""
    rows = [_row(name, median) for name, median in (("a.onnx", 2.0), ("b.onnx", 1.0))]
    streams = [_row(row.id, 2 * row.median, streams=2) for row in rows]
    machine = {"before": {"cpu": {"model": "Example CPU"}}, "after": {"cpu": {"model": "Example CPU"}}}
    page = render_latency_page(_document(*rows, *streams, machine=machine, packages={"numpy": "2.0"}))
    assert page.count("<svg") == 2 and page.count('<table class="names">') == 3
    for text in (
        "Example CPU",
        "0.990 to 1.010",
        "2.00 times as long",
        "1.500",
        "8 × 8 × 3",
        "2 streams",
        "numpy",
    ):
        assert text in page
    assert not re.search(r"<script|<link (?!rel=.icon. href=.data:)|src=|https?://(?!www.w3.org)", page)


def test_what_makes_the_figures_less_sure_stands_first() -> None:
    """Counted above, with each row's own numbers below its table."""
    drift = Warned(code="drift", values={"percent": -12.0})
    during = {"seconds": 30.0, "other_cores": 1.8, "steal_cores": 0.0}
    page = render_latency_page(
        _document(_row("a.onnx", 1.0, warnings=[drift], notes=["CUDA graph"]), machine={"during": during})
    )
    assert "other processes used 1.8 CPU cores" in page and "1 of 1 measurements became slower" in page
    assert "the last third&#39;s median is -12.0" in page.replace("\u00a0", " ") and "CUDA graph" in page
    assert 'class="verdict miss"' in page


def test_a_regression_is_the_worst_of_it() -> None:
    """In the table, and first among what to know."""
    now, before = [_row("a.onnx", 1.2), _row("b.onnx", 1.0)], [_row("a.onnx", 1.0), _row("b.onnx", 1.1)]
    page = render_latency_page(_document(*now), against(now, before, 5.0), 5.0)
    assert "1 of 2 medians is slower than the baseline by more than is allowed" in page
    assert 'class="verdict fail"' in page and "regression" in page and "faster" in page and "+20.0" in page


def test_names_are_text() -> None:
    """A path may hold whatever a file system allows."""
    evil = "a/<img src=x onerror=a()>\x1b[2J\u202e.onnx"
    page = render_latency_page(_document(_row(evil, 1.0), _row("b.onnx", 2.0)))
    assert "<img" not in page and "\x1b" not in page and "\u202e" not in page


def test_nothing_measured_is_said() -> None:
    """A config whose engines could not run here."""
    assert "Nothing was measured." in render_latency_page(_document())


@pytest.mark.parametrize(
    ("ids", "short"),
    [
        (["a/net.onnx"], ["net.onnx"]),
        (["a/net.onnx", "b/net.onnx"], ["a/net.onnx", "b/net.onnx"]),
        (["x/a/net.onnx", "y/a/net.onnx", "y/b.onnx"], ["x/a/net.onnx", "y/a/net.onnx", "b.onnx"]),
        (["net.onnx", "a/net.onnx"], ["net.onnx", "a/net.onnx"]),
        (["cpu/fp32", "gpu/fp32", "cpu/int8"], ["cpu/fp32", "gpu/fp32", "int8"]),
    ],
)
def test_labels_tell_apart(ids: list[str], short: list[str]) -> None:
    """The ends of paths, as short as they can be."""
    assert list(labels(ids).values()) == short
