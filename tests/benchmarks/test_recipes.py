"""Protects the comparison of recipes: turns by seed, what a recipe changes, and what is kept of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "study"
sys.path.insert(0, str(FOLDER))

import recipes as study  # noqa: E402

from pipeline.config.schema import DeployConfig  # noqa: E402

CONFIG = Path(__file__).parents[2] / "deploy_configs" / "fonts_cpu.yaml"


def test_recipes_take_turns_and_finished_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects pairing by seed, mean and spread, and that a study that was stopped goes on."""
    seen: list[tuple[int, int]] = []

    def measure(config: DeployConfig, data: Path, seed: int, folder: Path) -> dict[str, float]:
        assert (data / "train.npy").is_file()
        seen.append((config.teacher.epochs, seed))
        return dict.fromkeys(study.MEASURED, float(config.teacher.epochs + seed))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "measure", measure)
    small = [f"data.options.{part}_per_class=2" for part in ("train", "val", "test")]
    recipes = [
        ["--recipe", name, f"teacher.epochs={epochs}", *small] for name, epochs in (("a", 9), ("b", 5))
    ]
    for _ in range(2):
        study.main([str(CONFIG), *recipes[0], *recipes[1], "--seeds", "1", "3", "--out", str(tmp_path)])
    assert seen == [(9, 1), (5, 1), (9, 3), (5, 3)]
    result = json.loads((tmp_path / "recipes_fonts_cpu.json").read_text())
    first, second = result["rows"]
    assert (first["recipe"], first["n"], first["teacher_test"]["by_seed"]) == ("a", 2, [10.0, 12.0])
    assert second["student_test"]["mean"] == 7.0
    assert second["student_test"]["std"] == pytest.approx(2**0.5)


def test_a_pair_is_trained_by_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects what a line says: a tiny teacher and student, with the seed given."""
    from pipeline.config import load_config
    from pipeline.core.files import write_json

    monkeypatch.chdir(tmp_path)
    changes = [f"data.options.{part}_per_class=2" for part in ("train", "val", "test")]
    changes += ["teacher.epochs=1", "teacher.allow_chance_level=true", "distill.epochs=1"]
    config = load_config(CONFIG, changes)
    data = study.data_of(config)
    trained: list[str] = []

    def keep(path: Path, value: object) -> None:
        trained.append(path.parent.name)
        write_json(path, value)

    monkeypatch.setattr(study, "write_json", keep)
    other_loss = load_config(CONFIG, [*changes, "distill.method=kd"])
    one = study.measure(config, data, 1, tmp_path / "one")
    assert len(trained) == 3
    compared = study.measure(other_loss, data, 1, tmp_path / "one")
    assert len(trained) == 4  # the teacher and its logits are the first one's
    again, other = (study.measure(config, data, seed, tmp_path / "again") for seed in (1, 2))
    times = {"teacher_cpu_seconds": 0, "student_cpu_seconds": 0}
    assert set(one) == set(study.MEASURED)
    assert {**one, **times} == {**again, **times}
    assert min(one[name] for name in times) > 0
    assert {**one, **times} != {**other, **times}
    assert one["teacher_cpu_seconds"] == compared["teacher_cpu_seconds"]
