"""Protects: the accuracy table of INT8 says what its rows say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bench_precision import RESULT, STUDENTS, VARIANTS, summary, table
from pipeline.docs import between, rules_table

PAGE = Path(__file__).parents[2] / "docs" / "precision.md"


def row(seed: int, variant: str, int8: float, layout: str = "tensorrt") -> dict[str, object]:
    return {
        "student": "dsconv_nano", "seed": seed, "variant": variant, "layout": layout, "n": 2100,
        "fp32": 70.0 + seed, "fp16": 70.0 + seed, "int8": int8, "bytes": 1, "int8_macs_percent": 90.0,
        "groups_out": 0, "budget_met": None,
    }  # fmt: skip


def test_drops_are_paired_by_seed() -> None:
    """A drop is against the FP32 file of the same student: seeds that differ by a point cancel."""
    rows = [row(1, "minmax", 70.0), row(2, "minmax", 71.0), row(1, "mixed", 70.5)]
    first, second = summary(rows)
    assert first["drop"] == pytest.approx(1.0) and first["drop_std"] == pytest.approx(0.0)
    assert second["seeds"] == 1 and second["drop_std"] is None
    text = table({"summary": [first, second]})
    assert "| INT8 minmax | -1.00 ± 0.00 |" in text and "| INT8 mixed | -0.50 (90 % INT8) |" in text


def test_a_variant_that_was_not_run_has_no_number() -> None:
    """A dash, in the column of the student and layout that lack it."""
    rows = [row(1, "minmax", 70.0), row(1, "minmax", 70.0, "onnxruntime"), row(1, "entropy", 70.0)]
    assert "| INT8 entropy | -1.00 | – |" in table({"summary": list(summary(rows))})


def test_the_page_shows_the_stored_result_and_the_rules() -> None:
    """docs/precision.md is what the JSON and the table of rules give."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == between(text, "rules", rules_table()), "run `make docs`"
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert text == between(text, "measured", table(result))
    assert {r["student"] for r in result["rows"]} <= set(STUDENTS)
    assert {r["variant"] for r in result["rows"]} <= set(VARIANTS)
