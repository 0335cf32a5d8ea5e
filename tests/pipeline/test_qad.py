"""Quantisation-aware distillation in a whole run: decided on validation images, reported, resumed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.results.result import Result
from tests.pipeline.conftest import CPU_FILE, FONTS, TINY, Done, environment, figkd, quick_command, sets
from tests.warm import kill

# Enough images for a student that has something to lose, and ranges so narrow that INT8 loses it.
COARSE: dict[str, Any] = {
    "data.options": "{train_per_class: 60, val_per_class: 20, test_per_class: 20}",
    "distill.epochs": 8,
    "distill.batch_size": 32,
    "distill.lr": 0.3,
    "precision.calibration_method": "percentile",
    "precision.percentile": 96,
    "precision.mixed": "never",
    "precision.qad.epochs": 3,
    "precision.qad.lr": 0.01,
    "precision.qad.batch_size": 64,
}


def _run(folder: Path, **changes: Any) -> Done:
    return figkd("run", FONTS, *sets(TINY | COARSE | changes), cwd=folder)


def _qad(folder: Path, name: str = "qad.json") -> dict[str, Any]:
    """The newest artifact's facts by file, or what else it holds of each."""
    newest = max((folder / ".figkd/artifacts/qad").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    facts: dict[str, Any] = json.loads((newest / name).read_text(encoding="utf-8"))
    return facts


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything before the fine-tuning."""
    folder = tmp_path_factory.mktemp("learnt")
    done = figkd("run", FONTS, "--until", "precision", *sets(TINY | COARSE), cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def folder(learnt: Path, tmp_path: Path) -> Path:
    """A copy of that store, to run on."""
    shutil.copytree(learnt / ".figkd", tmp_path / ".figkd")
    return tmp_path


def test_within_budget_nothing_is_trained(folder: Path) -> None:
    """A budget that INT8 keeps costs one look at the validation images, and says so."""
    done = _run(folder, **{"budgets.top1": "{max_drop: 100}"})
    assert done.code == 0, done.err
    facts = _qad(folder)
    assert {row["state"] for row in facts.values()} == {"not_needed"} and len(facts) == 2
    assert "not fine-tuned" in done.out and "(QAD)" not in done.out


def test_a_missed_budget_is_fine_tuned_built_and_reported(folder: Path) -> None:
    """Engines come from the new file, and every view of the result says what it is."""
    done = _run(folder, **{"budgets.top1": "{max_drop: 5}"})
    assert done.code == 0, done.err
    facts = _qad(folder)
    timing = _qad(folder, "timing.json")
    result = Result.model_validate_json((folder / "runs/fonts_cpu/result.json").read_text(encoding="utf-8"))
    assert {t.onnx: t.state for t in result.qad} == {"int8.onnx": "tuned", CPU_FILE: "tuned"}
    for tuning in result.qad:
        row = facts[tuning.onnx]
        assert row["val_after"] > row["val_before"] and len(row["history"]) == 3
        assert [epoch["threads"] for epoch in timing[tuning.onnx]] == [1, 1, 1]
        assert not any("timing" in epoch for epoch in row["history"])
        assert (tuning.method, tuning.epochs) == ("figkd", 3)
        for engine in result.engines:
            if engine.onnx == tuning.onnx:
                assert engine.qad and f"{engine.id} (QAD)" in done.out
                assert tuning.drop_after == pytest.approx(engine.drop)
                assert tuning.drop_before is not None and tuning.drop_before > engine.drop  # type: ignore[operator]
    assert not any(engine.qad for engine in result.engines if engine.precision != "int8")
    (cpu,) = (e for e in result.engines if e.id == "cpu/int8")
    assert cpu.accuracy is not None and cpu.accuracy.source == "engine"
    for page in ("report.html", "report.md"):
        text = (folder / "runs/fonts_cpu" / page).read_text(encoding="utf-8")
        assert "(QAD)" in text and "3 epochs of figkd on the quantised graph" in text


@pytest.mark.slow
def test_a_killed_fine_tuning_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """kill -9 between two epochs: the next run takes the state up and ends with the same artifact."""
    changes = TINY | COARSE | {"precision.qad.when": "always", "precision.qad.epochs": 12}
    arguments = ["run", FONTS, "--until", "qad", *sets(changes)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for place in (whole, killed):
        shutil.copytree(folder / ".figkd", place / ".figkd")
    assert figkd(*arguments, cwd=whole).code == 0
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(quick_command(*arguments), cwd=killed, env=environment(), **quiet)  # type: ignore[call-overload]
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if list((killed / ".figkd").rglob("int8_cpu_*.pt")):  # the second file's training has a state
            break
        time.sleep(0.002)
    kill(process)
    assert process.returncode == -signal.SIGKILL
    again = figkd(*arguments, cwd=killed)
    assert again.code == 0, again.err
    digests = []
    for place in (whole, killed):
        newest = max(
            (place / ".figkd/artifacts/qad").glob("*/artifact.json"), key=lambda p: p.stat().st_mtime_ns
        )
        digests.append(json.loads(newest.read_text(encoding="utf-8"))["digest"])
    assert digests[0] == digests[1]
