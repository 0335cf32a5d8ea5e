"""Protects: the table of built layers says what its rows say, and the page shows it."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.bench_layers import RESULT, STUDENTS, table
from pipeline.docs import between
from pipeline.results.composition import BuiltEngine, int8_outlook

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def test_the_page_shows_the_stored_result() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    assert text == between(text, "layers", table(result)), "run benchmarks/bench_layers.py"
    assert {row["student"] for row in result["rows"]} == set(STUDENTS)


def test_the_stored_rows_give_the_stored_expectation() -> None:
    """The rule, on what the real builder listed."""
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"]
    built = {(r["student"], r["precision"]): BuiltEngine.model_validate(r["built"]) for r in rows}
    for row in rows:
        if row["precision"] == "int8":
            pair = built[row["student"], "int8"], built[row["student"], "fp16"]
            assert row["outlook"] == int8_outlook(*pair) == "no_faster"
