"""Comparison with a baseline: rows are matched by engine, batch and boundary; changes have a sign."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.compare import against, parse_percent, read_rows
from pipeline.errors import ConfigError


def _row(median: float, **other: object) -> dict[str, object]:
    return {"id": "cpu/fp32", "batch": 1, "boundary": "engine", "median": median, "n": 1000} | other


def test_slower_is_positive() -> None:
    """The change is relative to the baseline."""
    assert against([_row(1.1)], [_row(1.0)])[0]["change_percent"] == pytest.approx(10)
    assert against([_row(0.5)], [_row(1.0)])[0]["change_percent"] == pytest.approx(-50)


def test_only_like_is_compared_with_like() -> None:
    """Another batch size, boundary or engine is no baseline."""
    for other in ({"batch": 2}, {"boundary": "engine+copies"}, {"id": "cpu/fp16"}):
        assert against([_row(1.0)], [_row(1.0, **other)]) == []


@pytest.mark.parametrize(("text", "value"), [("5%", 5.0), ("5", 5.0), ("0.5 %", 0.5), (None, None)])
def test_percentages(text: str | None, value: float | None) -> None:
    """With and without the sign."""
    assert parse_percent(text) == value


@pytest.mark.parametrize("text", ["five", "-3%", "nan"])
def test_no_percentages(text: str) -> None:
    """Anything else is a usage error."""
    with pytest.raises(ConfigError):
        parse_percent(text)


def test_a_baseline_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A JSON file that is no result gets one clear message."""
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"not a result\.json"):
        read_rows(tmp_path / "x.json")
