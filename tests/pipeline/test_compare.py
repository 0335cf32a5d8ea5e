"""Comparison with a baseline: like with like, a change has a sign and an interval, noise is no regression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.compare import against, other_machine, parse_percent, read_baseline, remarks, rows_from
from pipeline.errors import ConfigError
from pipeline.result import BenchmarkDocument, BenchmarkRow


def _row(median: float, noise: float | None = 0.01, **other: Any) -> BenchmarkRow:
    interval = None if noise is None else (median * (1 - noise), median * (1 + noise))
    fields: dict[str, Any] = {
        "id": "cpu/fp32", "batch": 1, "boundary": "engine", "n": 1000, "min": median, "mean": median,
        "median": median, "p90": median, "p95": median, "p99": median, "max": median, "std": 0.0,
        "cv_percent": 0.0, "throughput": 1000 / median, "drift_percent": 0.0, "warnings": [], "samples": "x",
        "intervals": {"median": interval},
    }  # fmt: skip
    return BenchmarkRow(**fields | other)


def test_slower_is_positive() -> None:
    """The change is relative to the baseline, its interval is what both intervals leave possible."""
    (change,) = against([_row(1.1)], [_row(1.0)])
    assert change.percent == pytest.approx(10)
    assert change.interval == (
        pytest.approx(100 * (1.1 * 0.99 / 1.01 - 1)),
        pytest.approx(100 * (1.1 * 1.01 / 0.99 - 1)),
    )
    assert against([_row(0.5)], [_row(1.0)])[0].percent == pytest.approx(-50)


def test_only_like_is_compared_with_like() -> None:
    """Another batch size, boundary, number of streams, rate or engine is no baseline."""
    others = (
        {"batch": 2},
        {"boundary": "engine+copies"},
        {"streams": 2},
        {"rate_fps": 30.0},
        {"id": "cpu/fp16"},
    )
    for other in others:
        assert against([_row(1.0)], [_row(1.0, **other)]) == []


def test_files_are_found_by_name_where_it_is_unique() -> None:
    """A build in another folder is compared with the one before; two of a name are not guessed at."""
    before = [_row(1.0, id="old/net.onnx"), _row(2.0, id="old/other.onnx")]
    (change,) = against([_row(1.5, id="new/net.onnx")], before)
    assert (change.before.id, change.percent) == ("old/net.onnx", pytest.approx(50))
    two = [_row(1.0, id="a/net.onnx"), _row(1.0, id="b/net.onnx")]
    assert against(two, before) == [] and against([_row(1.0, id="new/net.onnx")], two) == []


@pytest.mark.parametrize(
    ("now", "noise", "limit", "judgement"),
    [
        (1.10, 0.01, 5.0, "regression"),
        (1.04, 0.01, 5.0, "slower"),
        (1.10, 0.08, 5.0, "noise"),
        (1.10, 0.01, None, "slower"),
        (1.01, 0.01, 0.0, "noise"),
        (0.90, 0.01, 5.0, "faster"),
        (1.10, None, 5.0, "regression"),  # an old baseline without intervals: by the medians alone
    ],
)
def test_judgements(now: float, noise: float | None, limit: float | None, judgement: str) -> None:
    """A regression is more than allowed and more than noise."""
    (change,) = against([_row(now, noise)], [_row(1.0, noise)], limit)
    assert change.judgement == judgement


def test_noise_beyond_the_limit_is_said() -> None:
    """Nobody must take silence for a pass."""
    changes = against([_row(1.10, 0.08)], [_row(1.0, 0.08)], 5.0)
    (said,) = remarks(changes, 5.0)
    assert (
        said.startswith("inside the noise: cpu/fp32") and "10.0 % slower" in said and "quiet machine" in said
    )
    (said,) = remarks(against([_row(1.2)], [_row(1.0)], 5.0), 5.0)
    assert said.startswith("regression: ") and "allowed 5 %" in said
    assert remarks(against([_row(1.01)], [_row(1.0)], 5.0), 5.0) == []


def test_what_it_wrote_is_a_baseline(tmp_path: Path) -> None:
    """Round trip; unknown keys of the statistics stay out of the rows."""
    row = _row(1.0).model_dump() | {"confidence_percent": 95}
    document = BenchmarkDocument(created="2026-01-01T00:00:00Z", latency=rows_from([row]))
    (tmp_path / "x.json").write_text(document.model_dump_json())
    assert read_baseline(tmp_path / "x.json") == document


def test_another_machine_is_said() -> None:
    """Numbers of two CPUs differ for other reasons than the change under test."""
    here, there = ({"before": {"cpu": {"model": name}, "gpus": []}} for name in ("A", "B"))
    assert "another machine (B; here A)" in other_machine(here, there)
    assert other_machine(here, here) == other_machine(here, {}) == ""


@pytest.mark.parametrize(("text", "value"), [("5%", 5.0), ("5", 5.0), ("0.5 %", 0.5), (None, None)])
def test_percentages(text: str | None, value: float | None) -> None:
    """With and without the sign."""
    assert parse_percent(text) == value


@pytest.mark.parametrize("text", ["five", "-3%", "nan"])
def test_no_percentages(text: str) -> None:
    """Anything else is a usage error."""
    with pytest.raises(ConfigError):
        parse_percent(text)


@pytest.mark.parametrize("content", ["{}", "[]", "no json", json.dumps({"latency": [{"id": "x"}]})])
def test_a_baseline_of_another_kind_is_refused(content: str, tmp_path: Path) -> None:
    """A file that is none gets one clear message."""
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError, match=r"neither a result\.json nor a benchmark"):
        read_baseline(tmp_path / "x.json")
