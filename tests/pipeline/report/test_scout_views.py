"""A scouting's table and page: everything that was found stands in them, at any width, and nothing of it is markup."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pipeline.config.schema import Budgets, Goal
from pipeline.report.scout_page import render_scout_page
from pipeline.report.scout_terminal import render_scouting
from pipeline.results.rows.scouted import Candidate, ScoutDocument, ScoutRow

BUDGETS = Budgets(latency_p50_ms=Goal(max=2.0), engine_mb=Goal(max=1.0, target=["cpu"]), top1=Goal(min=80))


def _row(model: str, target: str = "cpu", p50: float | None = 1.0, **changes: Any) -> ScoutRow:
    facts: dict[str, Any] = {
        "candidate": Candidate(model=model, image_size=32), "target": target, "backend": "onnxruntime",
        "precision": "int8", "state": "timed" if p50 else "failed", "p50_ms": p50, "n": 900, "parameters": 5_181,
        "engine_bytes": 24_262, "memory_bytes": 27_000_000, "calibration": "synthetic",
    }  # fmt: skip
    return ScoutRow(**facts | changes)


def _document(*rows: ScoutRow) -> ScoutDocument:
    return ScoutDocument(config="demo", created="2026-11-29T00:00:00Z", classes=21, rows=rows, cpu="a CPU")


DOCUMENT = _document(
    _row("figkd/dsconv_nano", p50_interval=(0.9, 1.1), n=2000, p99_ms=1.9, p99_interval=(1.5, 2.5)),
    _row("timm/resnet18", p50=1.5, p50_interval=(1.2, 3.0), disturbed=True),
    _row("timm/vgg16", p50=40.0, engine_bytes=500_000_000),
    _row("figkd/dsconv_nano", "edge", p50=0.5),
    _row("nets:<b>odd</b>\x1b[31m", p50=None, reason="no ONNX form: <script>", fix="leave it out"),
)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_table(width: int) -> None:
    """Nothing is wider than the terminal; verdicts, reasons and the outcome are there."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render_scouting(DOCUMENT, BUDGETS))
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
    page = render_scout_page(DOCUMENT, BUDGETS)
    assert page.count("<svg") == 4
    assert "<script>" not in page and "&lt;script&gt;" in page and "<b>odd" not in page
    assert "1 of 4 candidates fits the budgets on every target." in page
    assert page == render_scout_page(DOCUMENT, BUDGETS)


def test_nothing_was_timed_or_nothing_is_asked() -> None:
    """Both are said; the page stands."""
    none = _document(_row("figkd/vgg8", p50=None, reason="no back end"))
    assert "None of 1 candidate could be timed." in render_scout_page(none, BUDGETS)
    assert "the config sets no budget" in render_scout_page(DOCUMENT, Budgets())
