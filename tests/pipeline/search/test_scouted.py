"""Rows of scout.json survive the disk, and are held against the budgets with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Budgets, Goal
from pipeline.core.errors import ConfigError
from pipeline.search.scouted import (
    Candidate,
    ScoutDocument,
    ScoutRow,
    candidates_that_fit,
    fits,
    held_against,
    read_scouted,
    write_scouted,
)

SMALL, LARGE = (Candidate(model=f"figkd/{name}", image_size=32) for name in ("dsconv_nano", "vgg8"))


def row(candidate: Candidate = SMALL, p50: float | None = 1.0, **changes: Any) -> ScoutRow:
    """A row that was timed with a narrow interval."""
    facts: dict[str, Any] = {
        "candidate": candidate, "target": "cpu", "backend": "onnxruntime", "precision": "fp32", "state": "timed",
        "engine_bytes": 50_000, "n": 1000, "p50_ms": p50, "p99_ms": p50 and 2 * p50, "batch": 1,
    }  # fmt: skip
    if p50:
        facts |= {"p50_interval": (0.9 * p50, 1.1 * p50), "p99_interval": (1.8 * p50, 2.5 * p50)}
    return ScoutRow(**facts | changes)


@pytest.mark.parametrize(
    ("budgets", "verdict"),
    [
        ({"latency_p50_ms": Goal(max=2)}, "fits"),
        ({"latency_p50_ms": Goal(max=1.05)}, "close"),
        ({"latency_p50_ms": Goal(max=0.5)}, "misses"),
        ({"latency_p99_ms": Goal(max=2.2)}, "close"),
        ({"throughput": Goal(min=2000)}, "misses"),
        ({"engine_mb": Goal(max=0.05)}, "fits"),
        ({"engine_mb": Goal(max=0.04)}, "misses"),
        ({"energy_mj_per_image": Goal(max=1)}, "unknown"),
    ],
)
def test_against_one_goal(budgets: dict[str, Goal], verdict: str) -> None:
    """The limit within the interval is close; what was not measured is unknown."""
    (held,) = held_against(row(), Budgets(**budgets))
    assert held.verdict == verdict


def test_accuracy_is_not_judged_and_scopes_are_kept() -> None:
    """An untrained network has no accuracy; a goal for another target or precision does not concern a row."""
    budgets = Budgets(
        top1=Goal(min=90, max_drop=1),
        engine_mb=Goal(max=0.01, target=["orin"]),
        latency_p50_ms=Goal(max=0.1, precision=["int8"]),
    )
    assert held_against(row(), budgets) == []


def test_a_p99_that_was_not_measured_is_at_least_the_median() -> None:
    """Few samples have no p99: only a median above the limit decides."""
    few = row(p99_ms=None, p99_interval=None, n=50)
    assert held_against(few, Budgets(latency_p99_ms=Goal(max=0.5)))[0].verdict == "misses"
    assert held_against(few, Budgets(latency_p99_ms=Goal(max=5)))[0].verdict == "unknown"


def test_which_candidates_are_left() -> None:
    """A candidate needs an engine that fits on every target where anything was timed."""
    rows = [
        row(), row(precision="int8", p50=9.0), row(target="orin"), row(LARGE), row(LARGE, p50=9.0, target="orin"),
        row(LARGE, target="rtx", p50=None, state="missing", reason="no GPU"),
    ]  # fmt: skip
    budgets = Budgets(latency_p50_ms=Goal(max=2))
    assert [each.id for each in fits(rows, budgets)] == [rows[0].id, rows[2].id, rows[3].id]
    assert candidates_that_fit(rows, budgets) == [SMALL]
    assert candidates_that_fit(rows, Budgets()) == [SMALL, LARGE]
    assert candidates_that_fit([], budgets) == []


def test_the_file(tmp_path: Path) -> None:
    """What was written is read again; anything else is refused with the way to make one."""
    path = tmp_path / "scout.json"
    document = ScoutDocument(
        config="fonts", created="now", classes=21, rows=(row(), row(LARGE, None, state="failed", reason="x"))
    )
    write_scouted(path, document)
    assert read_scouted(path) == document
    for content in (
        "{}",
        "[]",
        "\x00",
        path.read_text().replace("0.9", "NaN", 1),
        path.read_text().replace('"n": 1000', '"n": -1', 1).replace("1.0", "Infinity"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"is no scout\.json"):
            read_scouted(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_scouted(tmp_path / "none.json")
