"""Protects: an interrupted search for mixed precision goes on where it was, and its budget is the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export.precision.sensitivity import Score
from pipeline.config.schema import DeployConfig
from pipeline.stages.mixed import remembered
from pipeline.stages.precision import allowed_drop


def test_scores_are_remembered_across_interruptions(tmp_path: Path) -> None:
    """What was scored before a kill is not scored again, and is the same number."""
    asked: list[frozenset[str]] = []

    def score(returned: frozenset[str]) -> Score:
        asked.append(returned)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return Score(90.0 - len(asked), 0.1 * len(asked))

    sets = [frozenset(), frozenset({"a", "b"}), frozenset({"c"})]
    first = remembered(tmp_path / "m.json", score)
    before = [first(nodes) for nodes in sets[:2]]
    with pytest.raises(KeyboardInterrupt):
        first(sets[2])
    second = remembered(tmp_path / "m.json", score)
    assert [second(nodes) for nodes in sets[:2]] == before
    second(sets[2])
    second(sets[2])
    assert asked == [*sets, sets[2]]


@pytest.mark.parametrize(
    ("precision", "budgets", "expected"),
    [
        ({}, {}, 1.0),
        ({}, {"top1": {"max_drop": 0.4}}, 0.4),
        ({}, {"top1": {"max_drop": 0.4, "precision": ["int8"]}}, 0.4),
        ({}, {"top1": {"max_drop": 0.4, "precision": ["fp16"]}}, 1.0),
        ({}, {"top1": {"min": 70}}, 1.0),
        ({"int8_max_drop": 0.0}, {"top1": {"max_drop": 0.4}}, 0.0),
        ({"mixed": "never"}, {"top1": {"max_drop": 0.4}}, None),
    ],
)
def test_the_budget_of_mixed_precision(
    precision: dict[str, Any], budgets: dict[str, Any], expected: float | None
) -> None:
    """The key itself, else the accuracy budget where it concerns INT8, else one point."""
    config = DeployConfig.model_validate(
        {
            "name": "x",
            "data": {"dataset": "fonts"},
            "teacher": {"model": "figkd/resnet_tiny"},
            "student": {"model": "figkd/dsconv_nano"},
            "targets": {"cpu": {"engine": "onnxruntime"}},
            "precision": precision,
            "budgets": budgets,
        }
    )
    assert allowed_drop(config) == expected


@pytest.mark.parametrize(
    "text", ["{", "[1]", "3", '{"a": 1}', '{"a": [1, 2]}', '{"a": ["x", null]}', "[" * 100_000]
)
def test_damaged_memories_count_as_none(tmp_path: Path, text: str) -> None:
    """What a run before left is a help, not a condition."""
    (tmp_path / "m.json").write_text(text)
    assert remembered(tmp_path / "m.json", lambda nodes: Score(50.0, 0.5))(frozenset("a")) == Score(50.0, 0.5)
