"""Protects: the study's table says what its students scored, and each of its tools does what it claims."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

FOLDER = Path(__file__).parents[2] / "benchmarks" / "study"
sys.path.insert(0, str(FOLDER))

import fetch_photos  # noqa: E402
import forms  # noqa: E402
import study  # noqa: E402
import trials  # noqa: E402
import updated_order  # noqa: E402

from figkd.loss import functional  # noqa: E402
from figkd.loss.figkd_loss import FiGKDLoss  # noqa: E402
from figkd.loss.methods import METHODS  # noqa: E402

PLANS: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    for name in ("methods", "methods_short", "untuned")
}
PLAN = PLANS["methods"]
Settings = tuple[tuple[str, str], ...]


class Scored(dict[tuple[Settings, int], dict[str, float]]):
    """Finished students by settings and seed."""


def job(settings: Settings, seed: int) -> tuple[Settings, int]:
    return settings, seed


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_method_has_the_same_number_of_trials(plan: dict[str, Any]) -> None:
    """Protects the equal budget, and that figkd's first setting is the library's default recipe."""
    assert plan["tuned"].keys() == PLAN["tuned"].keys()
    assert len({len(grid) for grid in plan["tuned"].values()}) == 1
    defaults = METHODS["figkd"].defaults
    for key, value in plan["tuned"]["figkd"][0].items():
        assert defaults[key.removeprefix("distill.figkd.")] == value


def test_differences_are_paired_by_seed() -> None:
    """Protects the standard error: that of the differences of one seed's students, not of the means."""
    kd, ours = (study.settings_of(name, 0.1, {}) for name in ("kd", "figkd"))
    scores = {kd: [50.0, 60.0, 70.0], ours: [51.0, 62.0, 73.0]}
    runs = Scored({job(s, i): {"test": v} for s, values in scores.items() for i, v in enumerate(values, 1)})
    seeds = {"kd": 3, "figkd": 3}
    rows = {r["method"]: r for r in study.rows_of({"kd": kd, "figkd": ours}, runs, job, seeds)}  # type: ignore[arg-type]
    assert rows["figkd"]["minus_kd"] == pytest.approx(2.0)
    assert rows["kd"]["figkd_minus_standard_error"] == pytest.approx(1 / 3**0.5)
    assert rows["figkd"]["std"] == pytest.approx(11.0, abs=0.01)
    text = study.table(list(rows.values()))
    assert "| **figkd** | 3 | 62.00 ± 11.00 | +2.00 ± 0.58 | – |" in text


def test_only_the_rate_of_the_default_recipe_is_chosen() -> None:
    """Protects the claim on the default recipe: its options are never those of another trial."""
    trials = [
        study.settings_of("figkd", lr, own)
        for lr, own in itertools.product(PLAN["lr"], PLAN["tuned"]["figkd"])
    ]
    runs = Scored({job(s, study.TUNING_SEEDS[0]): {"val": float(i)} for i, s in enumerate(trials)})
    chosen = dict(study.fixed(PLAN, runs, job, 0))  # type: ignore[arg-type]
    assert json.loads(chosen["distill.lr"]) == PLAN["lr"][-1]
    assert json.loads(chosen["distill.figkd.batch_weight"]) == METHODS["figkd"].defaults["batch_weight"]
    assert len(chosen) == 3


def tuning(methods: int, finalists: int) -> tuple[dict[str, Settings], list[dict[str, Any]], list[int]]:
    """Chosen settings, record and seeds of a search in which the second setting is the best by the first seed only."""
    plan = {
        "lr": [0.3],
        "tuned": {"kd": [{"distill.kd.temperature": float(t)} for t in range(1, methods + 1)]},
    }
    trials = [study.settings_of("kd", 0.3, own) for own in plan["tuned"]["kd"]]  # type: ignore[index]
    scores = {
        job(s, seed): {"val": (10.0 + i) if seed == study.TUNING_SEEDS[0] else 10.0 - 9 * i}
        for i, s in enumerate(trials)
        for seed in study.TUNING_SEEDS
    }
    trained: list[int] = []

    class Trained(Scored):
        def finish(self, jobs: Any) -> None:
            trained.extend(seed for _, seed in jobs)

    return *study.tune(plan, Trained(scores), job, finalists), trained  # type: ignore[arg-type]


def test_more_seeds_are_trained_only_where_they_decide() -> None:
    """Protects the budget: one finalist needs no second seed, one setting needs no search, two finalists need three."""
    first, *more = study.TUNING_SEEDS
    chosen, record, trained = tuning(2, finalists=1)
    assert dict(chosen["kd"])["distill.kd.temperature"] == "2.0" and trained == [first, first]
    assert [len(line["val_top1"]) for line in record] == [1, 1]
    chosen, record, trained = tuning(2, finalists=2)
    assert dict(chosen["kd"])["distill.kd.temperature"] == "1.0" and len(trained) == 2 + 2 * len(more)
    chosen, record, trained = tuning(1, finalists=1)
    assert dict(chosen["kd"])["distill.kd.temperature"] == "1.0" and not record and not trained


def test_a_trial_changes_the_loss_as_it_says() -> None:
    """Protects the trials: factor and warm correlation reach the loss; a weight by energy undoes the unit."""
    plain = FiGKDLoss(4, order=[0, 1, 2, 3], batch_weight=0.0, ce_weight=0.0)
    student, teacher, labels = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([0, 1, 2])
    value = float(plain(student, teacher, labels))
    scaled = trials.Changed(plain, trials.Trial("scaled", factor=2.0))(2.0 * student, teacher, labels)
    assert scaled == pytest.approx(4.0 * value, rel=1e-5)
    warm = trials.Changed(plain, trials.Trial("warm", relation=0.5))(student, teacher, labels)
    expected = functional.dist(student, teacher, beta=0.0, gamma=0.5, temperature=4.0)
    assert warm == pytest.approx(value + float(expected), rel=1e-5)
    for trial in trials.TRIALS["units"]:
        if "energy" in trial.name:
            assert trial.options["weight"] * trial.factor**2 == pytest.approx(
                METHODS["figkd"].defaults["weight"]
            )


def formed(order: Any, **changes: Any) -> FiGKDLoss:
    """The default loss of eight classes."""
    return FiGKDLoss(8, order=list(order), **changes)


def test_forms_change_what_they_say() -> None:
    """Protects the trials of forms: each is another loss, but where there is nothing to learn, or nothing to weigh."""
    order = np.array([3, 1, 2, 0, 7, 5, 6, 4])
    chance = torch.Generator().manual_seed(0)
    student, teacher = 5 * torch.randn(2, 16, 8, generator=chance)
    labels = torch.arange(16) % 8
    known = teacher.double().numpy(), labels.numpy()
    default = float(formed(order)(student, teacher, labels))
    made = {name: form(formed, order, known) for name, form in forms.FORMS.items()}
    for name, loss in made.items():
        own = float(loss(student, teacher, labels))
        assert own != pytest.approx(default, rel=1e-4), name
        nothing = float(formed(order)(teacher, teacher, labels))
        assert float(loss(teacher, teacher, labels)) == pytest.approx(nothing, rel=1e-4), name
    each = [float(formed(np.roll(order, shift))(student, teacher, labels)) for shift in range(8)]
    assert float(made["shifted"](student, teacher, labels)) == pytest.approx(sum(each) / 8, rel=1e-5)
    sure = 10 * torch.eye(8)[labels]
    assert float(made["trusting"](student, sure, labels)) == pytest.approx(
        float(formed(order)(student, sure, labels)), rel=1e-4
    )


def test_informed_weights_are_as_heavy_together() -> None:
    """Protects the comparison: weights move between bands, and a band that the labels explain whole weighs nothing."""
    order, labels = np.arange(8), np.arange(32) % 8
    means = np.random.default_rng(0).normal(size=(8, 8))[labels]
    means[:, ::2] = means[:, 1::2]  # pairs of neighbours are alike but for what is added to them
    alternating = np.where(np.arange(8) % 2, -1.0, 1.0) * np.random.default_rng(1).normal(size=(32, 1))
    given = {"d1": 1.0, "d2": 0.5, "d3": 0.25}
    found = forms.band_weights(order, (means + alternating, labels), given, low=False)
    assert found["d2"] == pytest.approx(0.0, abs=1e-9) and found["d3"] == pytest.approx(0.0, abs=1e-9)
    assert found["d1"] > 1.0


def test_order_is_made_again_from_what_was_confused() -> None:
    """Protects the experiment: after an epoch, classes that the student confuses are neighbours; before it, not."""
    orders: list[list[int]] = []

    def make(order: Any) -> FiGKDLoss:
        orders.append(list(order))
        return FiGKDLoss(4, order=order)

    loss = updated_order.UpdatedOrder(make, [0, 1, 2, 3], classes=4, steps=2, beyond=False)
    labels = torch.tensor([0, 1, 2, 3])
    partner = torch.tensor([2, 3, 0, 1])  # 0 with 2, 1 with 3
    student = 4.0 * (torch.eye(4) + torch.eye(4)[partner])
    for _ in range(3):
        loss(student, torch.eye(4), labels)
    assert orders[0] == [0, 1, 2, 3] and len(orders) == 2
    places = np.argsort(orders[1])
    assert abs(places[0] - places[2]) == 1 and abs(places[1] - places[3]) == 1


def test_photographs_are_read_by_class() -> None:
    """Protects the labels: type and degree of defect, as the wheel has them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr(
            "elpv_dataset/data/labels.csv", "images/cell0001.png  1.0  mono\nimages/cell0002.png  0.0  poly\n"
        )
        wheel.writestr("elpv_dataset/data/images/cell0001.png", b"1")
        wheel.writestr("elpv_dataset/data/images/cell0002.png", b"2")
    with zipfile.ZipFile(buffer) as wheel:
        assert list(fetch_photos.cells(wheel)) == [
            ("mono_defect", "cell0001.png", b"1"),
            ("poly_sound", "cell0002.png", b"2"),
        ]


@pytest.mark.slow
def test_the_study_runs_and_goes_on(tmp_path: Path) -> None:
    """Protects the documented command, end to end on few images: table, result and figure; nothing trained twice."""
    config = FOLDER / "fonts_cpu.yaml"
    few = {"train": 8, "val": 4, "test": 4}
    overrides = [f"data.options={json.dumps({f'{k}_per_class': n for k, n in few.items()})}"]
    overrides += [
        "teacher.epochs=1",
        "teacher.allow_chance_level=true",
        "distill.epochs=1",
        "distill.batch_size=32",
    ]
    command = [sys.executable, str(FOLDER / "study.py"), str(config), "--methods", str(FOLDER / "tiny.yaml")]
    command += ["--seeds", "2", "--jobs", "1", "--finalists", "1", "--out", str(tmp_path / "out")]
    command += [part for text in overrides for part in ("--set", text)]
    first, second = (
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=500).stdout
        for _ in range(2)
    )
    assert "| **figkd** | 2 |" in first
    assert "4 students, 4 to train" in first and "4 students, 0 to train" in second
    result = json.loads((tmp_path / "out" / "study_fonts_cpu.json").read_text(encoding="utf-8"))
    assert {row["n"] for row in result["rows"]} == {2}
    assert (tmp_path / "out" / "study_fonts_cpu.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_study_from_end_to_end(tmp_path: Path) -> None:
    """Protects the study of methods: tuning, comparison, controls, table, figure, result."""
    changes = (
        "data.options={train_per_class: 8, val_per_class: 4, test_per_class: 4}", "teacher.epochs=1",
        "teacher.allow_chance_level=true", "distill.epochs=1", "distill.views.count=1",
        f"store={tmp_path / 'store'}", "name=study_tiny",
    )  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, str(FOLDER / "study.py"), "--out", str(tmp_path), "--jobs", "1",
            str(FOLDER / "fonts_cpu.yaml"), "--seeds", "2", "--methods",
            str(FOLDER / "tiny.yaml"), "--finalists", "1",
            *(word for change in changes for word in ("--set", change)),
        ],
        capture_output=True, text=True, timeout=500, check=False, cwd=FOLDER.parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = tmp_path.glob("study_*.json")
    found = json.loads(result.read_text(encoding="utf-8"))
    names = [row["method"] for row in found["rows"]]
    controls = ["default, without the detail", "figkd, random order"]
    # Of the default recipe and the detail alone, the one that was not chosen has a row of its own.
    assert names[:2] == ["kd", "figkd"] and names[3:] == controls
    assert names[2] in ("figkd, default recipe", "figkd, detail alone")
    assert all(row["n"] == 2 for row in found["rows"])
    assert sum(trial["chosen"] for trial in found["tuning"]) == 2
    assert "| **figkd** | 2 |" in done.stdout
