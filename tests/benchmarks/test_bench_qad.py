"""Protects: the table of the fine-tuning says what its rows say."""

from __future__ import annotations

import json

import pytest

from benchmarks.bench_qad import OUT, PAGE, case, table
from pipeline.docs import between


def row(seed: int, ptq: float, qad: float) -> dict[str, object]:
    part = {"ptq": ptq, "qad": qad, "control": ptq, "mixed": 69.0, "mixed_out_of_int8_percent": 12.0}
    return {"seed": seed, "student": 70.0, "tensorrt": part, "onnxruntime": part}


def test_what_is_won_back_is_a_share_of_what_was_lost() -> None:
    """Means over seeds; no share where there was next to nothing to win."""
    found = case("x", "per_tensor", 3, 0.003, [row(0, 50.0, 69.0), row(1, 60.0, 68.0)])["tensorrt"]
    assert found["n"] == 2 and found["drop_ptq"]["mean"] == 15 and found["drop_qad"]["mean"] == 1.5
    assert found["recovered_percent"] == pytest.approx(90)
    assert case("x", "per_tensor", 3, 0.003, [row(0, 69.5, 70.0)])["tensorrt"]["recovered_percent"] is None
    text = table({"cases": {"x": case("x", "per_tensor", 3, 0.003, [row(0, 50.0, 69.0)])}})
    assert "| per tensor | 0 | tensorrt | 20.00 | 20.00 | 1.00 | 1.00 (12 %) |" in text


def test_the_page_shows_the_stored_result() -> None:
    """docs/precision.md is what the JSON gives."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == between(text, "qad", table(json.loads(OUT.read_text(encoding="utf-8"))))
