"""Protects: results that were written before are read, by the views and as a baseline, and say what they said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.report import choice_words, latency_words, precision_words
from pipeline.report.html import render_html
from pipeline.report.markdown import render_markdown
from pipeline.results.compare import read_baseline
from pipeline.results.result import SCHEMA_VERSION, Result
from pipeline.results.upgrade import upgraded, upgraded_benchmark
from tests.pipeline.report.sample import sample, sample_crowded, sample_missed

STORED = Path(__file__).parent / "stored"


@pytest.fixture
def old() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((STORED / "result_schema_1.json").read_text(encoding="utf-8"))
    assert found["schema_version"] == 1
    return found


def test_schema_1_is_read(old: dict[str, Any]) -> None:
    """Its sentences are shown as they stand; its numbers are where they were."""
    before = json.dumps(old)
    result = Result.model_validate(upgraded(old))
    assert json.dumps(old) == before, "the given values are left as they are"
    assert result.schema_version == SCHEMA_VERSION
    shipping = result.shipping[0]
    assert choice_words.why(result, shipping) == old["shipping"][0]["why"]
    assert latency_words.cautions(result.engines[0].latency[0]) == old["engines"][0]["latency"][0]["warnings"]
    assert [e.accuracy.source for e in result.engines if e.accuracy] == ["engine", "engine", "onnx"]
    int8, was = result.precisions[2], old["precisions"][2]
    assert precision_words.calibration(int8.calibration) == was["calibration"] == "entropy, 512 images"
    assert precision_words.why_kept_out(int8.kept_out[0]) == was["kept_out"][0]["why"]
    assert [e.latency[0].median for e in result.engines[:2]] == [
        e["latency"][0]["median"] for e in old["engines"][:2]
    ]
    assert old["shipping"][0]["why"] in render_markdown(result)
    assert "schema 2" in render_html(result)


def test_schema_1_is_a_baseline(old: dict[str, Any]) -> None:
    """And so is what the command `benchmark` wrote then."""
    found = read_baseline(STORED / "result_schema_1.json")
    assert [row.id for row in found.latency] == ["cpu/fp32", "cpu/int8"]
    assert found.latency[0].notes == old["engines"][0]["latency"][0]["warnings"]
    (row,) = read_baseline(STORED / "benchmark_version_1.json").latency
    assert row.id == "a.onnx" and row.notes[0].startswith("unstable")


@pytest.mark.parametrize(
    "damaged",
    [
        {"shipping": 3}, {"engines": None}, {"engines": [3]}, {"precisions": [{"calibration": [1]}]},
        {"shipping": [[]]}, {"schema_version": 3}, {"schema_version": "1"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_damaged_is_refused_as_any_other(old: dict[str, Any], damaged: dict[str, Any]) -> None:
    """By the schema; reading it never ends in another error."""
    with pytest.raises(ValidationError):
        Result.model_validate(upgraded(old | damaged))


@pytest.mark.parametrize("values", [None, [], 3, {"latency": 3}, {"latency": [3]}])
def test_a_damaged_benchmark_is_left_to_the_schema(values: Any) -> None:
    """Whatever it is."""
    upgraded_benchmark(values)


@pytest.mark.parametrize("made", [sample, sample_missed, sample_crowded], ids=lambda made: made.__name__)
def test_a_result_of_this_schema_is_left_alone(made: Any) -> None:
    """Round trip."""
    result = made()
    assert Result.model_validate(upgraded(json.loads(result.model_dump_json()))) == result
