"""Mutants of all shipped configs: exit 0 or 2, a place for every problem, within seconds and megabytes."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.config import mutants
from tests.pipeline.conftest import command, environment, quick_command

MUTANTS = 10_000
PROCESSES = 4


def test_mutants_are_the_same_every_time() -> None:
    """A number is enough to report one."""
    assert [mutants.mutant(seed) for seed in range(50)] == [mutants.mutant(seed) for seed in range(50)]


def test_some_mutants_end_well(tmp_path: Path) -> None:
    """The command line's entry point on each: its exit code, its words, and `config show` of the good ones."""
    outcome = mutants.read_mutants(range(300), tmp_path / "configs", limit_s=20)
    assert not outcome.bad
    assert sum(outcome.codes.values()) == 300 and min(outcome.codes[0], outcome.codes[2]) > 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutants_end_well(tmp_path: Path) -> None:
    """None takes more than 2 s of the processor, no process more than 300 MB, whatever it read before."""
    share = MUTANTS // PROCESSES
    codes: collections.Counter[str] = collections.Counter()
    outcomes = []
    for first in range(0, MUTANTS, share):
        arguments = [str(first), str(share), str(tmp_path / str(first))]
        done = subprocess.run(
            [sys.executable, mutants.__file__, *arguments],
            env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        outcome = json.loads(done.stdout)
        outcomes.append(outcome)
        codes.update(outcome["codes"])
    print(f"exit codes {dict(codes)}")
    for key in ("cpu_s", "wall_s", "peak_mb"):
        print(f"largest {key}: {max(outcome[key] for outcome in outcomes):.2f}")
    assert not [fault for outcome in outcomes for fault in outcome["bad"]]
    assert sum(codes.values()) == MUTANTS and set(codes) == {"0", "2"}
    assert max(outcome["cpu_s"] for outcome in outcomes) < 2
    assert max(outcome["peak_mb"] for outcome in outcomes) < 300


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_mutants_by_the_real_command(tmp_path: Path) -> None:
    """As a process of its own the command says the same and leaves with the same code; the first ten import anew."""
    mutants.prepare(tmp_path)
    codes: collections.Counter[int] = collections.Counter()
    for seed in range(20_000, 20_100):
        mutant = mutants.mutant(seed)
        (tmp_path / mutant.path).write_bytes(mutant.content)
        words = [word for text in mutant.overrides for word in ("--set", text)]
        started = command if seed < 20_010 else quick_command
        done = subprocess.run(
            started("config", "check", mutant.path, *words),
            env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode in (0, 2) and "Traceback" not in done.stderr, (seed, done.stderr)
        codes[done.returncode] += 1
    assert min(codes[0], codes[2]) > 5


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["plan"],
        ["benchmark"],
        ["validate"],
        ["report"],
        ["doctor"],
        ["device", "show", "cpu", "-c"],
        ["device", "clean", "cpu", "-c"],
        ["config", "show"],
        ["config", "check"],
    ],
    ids=" ".join,
)
def test_every_command_reads_a_config_the_same_way(tmp_path: Path, words: list[str]) -> None:
    """There is one door: a pipe and a bomb are refused by all of them."""
    pipe, bomb = tmp_path / "pipe.yaml", tmp_path / "bomb.yaml"
    os.mkfifo(pipe)
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    bomb.write_text("\n".join(["a0: &a0 [x]", *levels]))
    for path, said in ((pipe, "is a pipe"), (bomb, "what aliases stand for")):
        code, answer = mutants.command(*words, str(path))
        assert code == 2 and said in answer and len(answer.splitlines()) == 2
