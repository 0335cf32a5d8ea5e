"""Running the command line as a user does: a process of its own, its exit code, stdout and stderr."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.places.int8_layouts import layout_here
from pipeline.stages.precision import onnx_file
from tests.warm import Warm

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
    "distill.epochs": 2,
    "distill.batch_size": 16,
    "distill.lr": 0.4,
    "distill.views.count": 2,
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
    """The same without the time to import, for a process that gets no signal and no limit (tests/warm.py)."""
    return _warm().command([*map(str, arguments)])


def environment() -> dict[str, str]:
    """Two processes with two threads each on two cores would only wait for each other."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@cache
def _warm() -> Warm:
    return Warm(environment())


def figkd(*arguments: str | Path, cwd: Path) -> Done:
    """Run `figkd-pipeline` in a folder, in a process of its own (tests/warm.py)."""
    timeout_s = 1500  # so that it ends; a loaded machine is no fault
    done = Done(*_warm().run([*map(str, arguments)], cwd, environment(), timeout_s))
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
    """The tiny demonstration, run once; tests may run more on its store, and must not break it."""
    folder = tmp_path_factory.mktemp("finished")
    done = figkd("run", FONTS, *sets(TINY), cwd=folder)
    assert done.code == 0, done.err
    return Finished(folder, done)
