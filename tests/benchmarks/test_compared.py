"""Protects the tables over studies: FiGKD is its default recipe, and differences are paired by seed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "benchmarks" / "study"
sys.path.insert(0, str(FOLDER))

import compared  # noqa: E402


def row(method: str, *test: float, control: bool = False, batch_weight: str = "1.0") -> dict[str, Any]:
    """A row as `study.py` writes it."""
    settings = {"distill.figkd.batch_weight": batch_weight} if "figkd" in method or control else {}
    mean = sum(test) / len(test)
    return {
        "method": method, "settings": settings, "control": control, "n": len(test), "test_top1": list(test),
        "mean": mean,
    }  # fmt: skip


def study(*rows: dict[str, Any]) -> dict[str, Any]:
    """A study's result."""
    return {"rows": list(rows), "teacher": {"test_top1": 90.0}}


def test_the_default_stands_for_figkd_where_another_setting_was_chosen() -> None:
    """A tuned setting of FiGKD is not what users run; the best baseline is that of the best mean."""
    result = study(
        row("figkd", 99.0, 99.0, batch_weight="0.0"), row(compared.DEFAULT, 50.0, 52.0),
        row("kd", 49.0, 49.0), row("ce", 51.0, 51.0),
    )  # fmt: skip
    head, lines = compared.methods({"faces": result})
    cells = {line[0]: line[1] for line in lines}
    assert head == ["method", "faces, n = 2"]
    assert cells["**FiGKD**"] == "**51.0**"
    assert cells["KD"] == "49.0 (+2.0 ± 1.0)"
    assert "DIST" not in cells
    other = study(row("figkd", 9.0, 9.0), row("kd", 1.0, 1.0), row("dist", 8.0, 8.0))
    assert ["DIST", "not run", "8.0 (+1.0 ± 0.0)"] in compared.methods({"faces": result, "others": other})[1]
    assert cells["FiGKD minus the best"] == "+0.0 ± 1.0"
    assert cells["teacher"] == "90.0"
    _, lines = compared.changes({"faces": result}, compared.OURS, 1.0)
    assert lines == [["without the correlation", "+48.0 ± 1.0 (n = 2)"]]


def test_a_task_is_a_line_with_the_best_baseline_of_its_own() -> None:
    """As they come and tuned, another method may be the best; a task that one of them lacks says so."""
    plain = study(row("figkd", 5.0, 7.0), row("kd", 1.0, 1.0), row("dist", 2.0, 2.0))
    tuned = study(row("figkd", 6.0, 6.0), row("kd", 5.0, 5.0), row("dist", 4.0, 4.0))
    _, lines = compared.summary({"faces": plain, "others": plain}, {"faces": tuned})
    before = ["**6.0**", "DIST 2.0", "+4.0 ± 1.0 (n = 2)"]
    assert lines == [
        ["faces", *before, "**6.0**", "KD 5.0", "+1.0 ± 0.0 (n = 2)"],
        ["others", *before, "not run", "not run", "not run"],
    ]


def test_changes_are_held_against_the_recipe_that_they_change() -> None:
    """A control of the detail alone is not one of the default recipe; fewer seeds are paired with the first ones."""
    result = study(
        row("figkd", 50.0, 52.0, 70.0), row(compared.ALONE, 40.0, 44.0, 60.0, batch_weight="0.0"),
        row("default, random order", 49.0, 49.0, control=True),
        row("figkd, random order", 30.0, 32.0, control=True, batch_weight="0.0"),
    )  # fmt: skip
    tasks = {"faces": result, "others": study(row("figkd", 1.0, 2.0), row(compared.ALONE, 1.0, 2.0))}
    _, lines = compared.changes(tasks, compared.OURS, 1.0)
    assert lines == [
        ["random order", "-2.0 ± 1.0 (n = 2)", "not run"],
        ["without the correlation", "-9.3 ± 0.7 (n = 3)", "+0.0 ± 0.0 (n = 2)"],
    ]
    _, lines = compared.changes({"faces": result}, compared.ALONE, 0.0)
    assert lines == [["random order", "-11.0 ± 1.0 (n = 2)"]]


def test_candidates_are_held_against_the_best_baseline_of_each_task() -> None:
    """Protects the rule by which the default was chosen: the best baseline by its mean, paired, and the worst task."""

    def result(ours: list[float], kd: list[float], dist: list[float]) -> dict[str, Any]:
        names = ("warm", "figkd", ours), ("KD", "kd", kd), ("DIST", "dist", dist)
        rows = [{"name": name, "method": method, "top1": top1, "few": False} for name, method, top1 in names]
        return {"rows": [*rows, {"name": "lucky", "method": "kd", "top1": [99.0], "few": True}]}

    tasks = {
        "faces": result([50.0, 53.0], [40.0, 60.0], [49.0, 50.0]),
        "others": result([9.0, 9.0], [1.0, 1.0], [8.0, 8.0]),
    }
    head, lines = compared.choice(tasks)
    assert head == ["candidate", "faces", "others", "worst"]
    assert lines == [["warm", "+1.5 ± 8.5 (n = 2)", "+1.0 ± 0.0 (n = 2)", "+1.0"]]


def test_trials_are_held_against_the_first() -> None:
    """The first trial's own top-1, and what the others are more."""
    rows = [
        {"name": "default recipe", "mean": 80.04, "minus_plain": 0.0, "standard_error": 0.0, "n": 5},
        {"name": "changed", "mean": 81.0, "minus_plain": 0.96, "standard_error": 0.44, "n": 5},
    ]
    head, lines = compared.trials({"faces": {"rows": rows}})
    assert head == ["n = 5", "faces"]
    assert lines == [["default recipe", "80.0"], ["changed", "+1.0 ± 0.4"]]
