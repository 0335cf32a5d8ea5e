"""Running the command line as a user does: a process of its own, its exit code, stdout and stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pipeline.places.int8_layouts import layout_here
from pipeline.stages.precision import onnx_file
from tests.warm import environment, warm

ROOT = Path(__file__).parents[2]
FONTS = ROOT / "deploy_configs" / "fonts_cpu.yaml"
CPU_FILE = onnx_file("int8", layout_here())
"""The INT8 file of a local ONNX Runtime target: this machine's CPU decides."""

# Small enough for seconds; every stage still does its real work, and the networks learn more than to guess.
TINY: dict[str, Any] = {
    "data.options": "{train_per_class: 24, val_per_class: 4, test_per_class: 4}",
    "teacher.epochs": 2,
    "teacher.batch_size": 16,
    "teacher.lr": 0.05,
    "teacher.allow_chance_level": True,  # two epochs do not always beat guessing
    "distill.epochs": 3,
    "distill.batch_size": 16,
    "distill.optimizer": "sgd",
    "distill.replicas": 1,
    "distill.lr": 0.4,
    "distill.views.count": 3,
    "precision.calibration_images": 32,
    "targets.rtx.compute_capabilities": "[SM86]",
    "benchmark.min_samples": 30,
    "benchmark.min_seconds": 0,
    "benchmark.warmup_ms": 5,
    "benchmark.rounds": 2,
    "benchmark.energy_s": 0,
    "budgets.top1": "null",
    "budgets.latency_p99_ms": "null",
}


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as one JSON document."""
        return json.loads(self.out)


def sets(values: dict[str, Any]) -> list[str]:
    """`--set` arguments."""
    return [argument for key, value in values.items() for argument in ("--set", f"{key}={value}")]


def command(*arguments: str | Path) -> list[str]:
    """The command line of the tool under test."""
    return [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]


def quick_command(*arguments: str | Path) -> list[str]:
    """The same without the time to import, for a process that gets no limit (tests/warm.py)."""
    return warm().command("-m", "pipeline.cli", *map(str, arguments))


def figkd(*arguments: str | Path, cwd: Path) -> Done:
    """Run `figkd-pipeline` in a folder, in a process of its own (tests/warm.py)."""
    ended = subprocess.run(
        quick_command(*arguments), cwd=cwd, env=environment(), capture_output=True, encoding="utf-8",
        timeout=1500, stdin=subprocess.DEVNULL,  # so that it ends; a loaded machine is no fault
    )  # fmt: skip
    done = Done(ended.returncode, ended.stdout, ended.stderr)
    assert "Traceback (most recent call last)" not in done.err, done.err
    return done


@dataclass(frozen=True)
class Finished:
    """A folder in which the tiny demonstration has run."""

    folder: Path
    done: Done

    def figkd(self, name: str, *arguments: str | Path, **changes: Any) -> Done:
        """Run a command on the tiny demonstration, with keys changed."""
        return figkd(name, FONTS, *sets(TINY | changes), *arguments, cwd=self.folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny demonstration, run once for all workers, each with a copy of its own.

    Tests may run more on its store, and must not break it.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    made, said = place / "finished", place / "finished.json"
    with FileLock(place / "finished.lock"):
        if not said.exists():
            made.mkdir(exist_ok=True)
            done = figkd("run", FONTS, *sets(TINY), cwd=made)
            assert done.code == 0, done.err
            said.write_text(json.dumps(asdict(done)))
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    return Finished(folder, Done(**json.loads(said.read_text())))
