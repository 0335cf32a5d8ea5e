"""Protects the comparison of untuned recipes: what is called the default is the default, and pairs are by seed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks" / "study"
sys.path.insert(0, str(FOLDER))

import default_recipe  # noqa: E402
import recipe_report  # noqa: E402

from figkd.loss.build import build_loss  # noqa: E402
from figkd.loss.methods import METHODS  # noqa: E402


def test_figkd_is_the_library_s_default() -> None:
    """Protects the claim: the recipe spelt out here is what a user gets without an option."""
    defaults = METHODS["figkd"].defaults
    assert {name: defaults[name] for name in default_recipe.RECIPES["figkd"].options} == dict(
        default_recipe.RECIPES["figkd"].options
    )


def test_every_recipe_makes_a_loss() -> None:
    """Protects the options by name."""
    for recipe in default_recipe.ALL.values():
        options = {name: value for name, value in recipe.options.items() if name != "order"}
        loss = build_loss(recipe.method, 6, **options)
        value = loss(torch.randn(4, 6), torch.randn(4, 6), torch.tensor([0, 1, 2, 5]))
        assert torch.isfinite(value)


def test_networks_take_32_px() -> None:
    """Protects the small networks: 8 x 8 patches, logits of every class."""
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    for build in (default_recipe.teacher_of, default_recipe.student_of):
        assert build(7)(images).shape == (2, 7)


def test_differences_are_paired_by_seed() -> None:
    """Protects the standard error, that the seed of the trials is left out, and other learning rates too."""
    lines = [
        recipe_report.Line("faces", recipe, lr, seed, 0.0, test)
        for recipe, lr, seed, test in (
            ("figkd", 0.6, 1, 51.0), ("figkd", 0.6, 2, 62.0), ("figkd", 0.6, 3, 73.0), ("figkd", 0.3, 1, 99.0),
            ("kd", 0.6, 1, 50.0), ("kd", 0.6, 2, 60.0), ("kd", 0.6, 1001, 99.0),
        )
    ]  # fmt: skip
    first, second = recipe_report.rows_of(lines, "faces", 0.6)
    assert (first["recipe"], first["n"], first["mean"]) == ("figkd", 3, 62.0)
    assert second["figkd_minus_it"] == pytest.approx(1.5) and second["pairs"] == 2
    assert second["standard_error"] == pytest.approx(0.5)


def test_the_report_says_what_the_students_scored(tmp_path: Path) -> None:
    """Protects the JSON: every student is kept, those of trials as well."""
    record = {
        "task": "faces",
        "recipe": "figkd",
        "lr": 0.6,
        "seed": 1,
        "val": 1.0,
        "test": 2.0,
        "seconds": 3.0,
    }
    path = tmp_path / "students.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert recipe_report.read_lines(path) == [recipe_report.Line("faces", "figkd", 0.6, 1, 1.0, 2.0)]
