"""Protects a machine that is lent for minutes: whatever a check does, the others are done and what is known is kept."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.checks import CHECKS, ENGINES, Check, Options
from benchmarks.gpu.run import run

MODULE = "tests.benchmarks.gpu.little_checks"
ROOT = Path(__file__).parents[3]


def _checks(*names: str, group: str = "group", seconds: float = 60) -> list[Check]:
    return [Check(group, name, MODULE, seconds) for name in names]


def _run(checks: list[Check], out: Path, seconds: float = 300) -> dict[str, dict[str, Any]]:
    """The rows of a run by name; what it returns is what it writes."""
    summary = run(checks, Options("cpu", True, out), out, seconds)
    assert json.loads((out / "gpu_check.json").read_text()) == summary
    return {row["name"].split("/")[-1]: row for row in summary["checks"]}


def test_what_breaks_costs_only_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = (
        "fails", "passes", "raises", "crashes", "lacks", "is_wrong", "does_not_apply",
    )  # fmt: skip
    rows = _run([*_checks(*names), *_checks("passes", group="other")], tmp_path)
    assert {name: row["state"] for name, row in rows.items()} == {
        "fails": "failed", "passes": "passed", "raises": "failed", "crashes": "failed", "lacks": "not run",
        "is_wrong": "failed", "does_not_apply": "not applicable",
    }  # fmt: skip
    assert (rows["fails"]["why"], rows["fails"]["found"]) == ("too far apart", {"gap": 3})
    assert rows["raises"]["why"] == "ZeroDivisionError: a mistake"
    assert "little_checks" in rows["raises"]["found"]["traceback"]
    assert rows["crashes"]["why"] == f"its process ended with {-signal.SIGSEGV}"
    assert "the last words" in rows["crashes"]["found"]["log"]
    assert "a_package_that_does_not_exist" in rows["lacks"]["why"]
    said = capfd.readouterr().out.splitlines()
    assert len(said) == 9 and "a line that nobody asked for" not in said
    assert "2 passed, 4 failed, 1 not applicable, 1 not run" in said[-1]
    assert "fine" in said[1] and not (tmp_path / "work").exists()


def test_a_hang_ends_at_its_own_limit(tmp_path: Path) -> None:
    rows = _run([*_checks("hangs", seconds=0.2), *_checks("passes")], tmp_path)
    assert (rows["hangs"]["state"], rows["hangs"]["why"]) == ("failed", "not done within 0.2 s")
    assert rows["passes"]["state"] == "passed"


def test_checks_of_a_group_share_a_process(tmp_path: Path) -> None:
    """Protects the time: a library is loaded once, unless a check broke its process."""
    rows = _run(_checks("passes", "fails", "passes_again"), tmp_path)
    assert rows["passes"]["found"]["process"] == rows["passes_again"]["found"]["process"]
    rows = _run(_checks("passes", "raises", "passes_again"), tmp_path)
    assert rows["passes"]["found"]["process"] != rows["passes_again"]["found"]["process"]
    assert json.loads((tmp_path / "gpu_check.json").read_text())["machine"]["group"] == "prepared"


def test_what_cannot_be_prepared_is_not_run_or_failed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checks = [*_checks("passes", "hangs", group="missing"), *_checks("fails", group="crashing")]
    rows = _run(checks, tmp_path)
    assert {(rows[name]["state"], rows[name]["why"]) for name in ("passes", "hangs")} == {
        ("not run", "no such library")
    }
    assert rows["fails"]["state"] == "failed" and rows["fails"]["why"].startswith("its process ended with")
    assert capfd.readouterr().out.count("no such library") == 1  # a group is named once


def test_what_the_time_did_not_reach_is_named(tmp_path: Path) -> None:
    """Nobody takes what did not run for passed, nor what the end of the time stopped for failed."""
    rows = _run(_checks("hangs", "passes"), tmp_path, seconds=3)
    assert {(row["state"], row["why"]) for row in rows.values()} == {("not run", "the 0.05 minutes are over")}


def _begun(out: Path) -> tuple[subprocess.Popen[str], int]:
    """A run in a process of its own whose second check hangs, and the process of that check."""
    os.mkfifo(out / "pipe")
    script = (
        "import sys; from pathlib import Path; from benchmarks.gpu.checks import Check, Options\n"
        "from benchmarks.gpu.run import run\n"
        f"names, out = ('passes', 'announces_and_hangs', 'fails'), Path({str(out)!r})\n"
        f"checks = [Check('group', name, {MODULE!r}, 60) for name in names]\n"
        "run(checks, Options('cpu', True, out), out, 300)\n"
    )
    begun = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return begun, int((out / "pipe").read_text())


def test_a_killed_run_keeps_what_is_done(tmp_path: Path) -> None:
    """By SIGKILL: the file is whole, and no process stays on the GPU."""
    begun, check = _begun(tmp_path)
    watched = os.pidfd_open(check)
    begun.kill()
    begun.communicate()
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found["state"] == "running"
    assert [(row["name"], row["state"], row["why"]) for row in found["checks"]] == [
        ("group/passes", "passed", ""),
        ("group/announces_and_hangs", "running", "the run was cut here"),
        ("group/fails", "not run", "not reached"),
    ]
    assert select.select([watched], [], [], 60)[0], "the check's process lives on"
    os.close(watched)


def test_an_interrupted_run_says_what_it_has(tmp_path: Path) -> None:
    begun, _ = _begun(tmp_path)
    begun.terminate()
    said, _ = begun.communicate()
    assert (
        begun.returncode == 0 and "1 passed, 0 failed, 0 not applicable, 2 not run" in said.splitlines()[-1]
    )
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [row["why"] for row in found["checks"]] == ["", "interrupted", "not reached"]


def test_the_table_names_what_the_modules_have() -> None:
    """Protects the list that is made without importing what a bare machine lacks."""
    from benchmarks.gpu import engines, training

    assert set(ENGINES) == set(engines.CHECKS)
    assert [check.name for check in CHECKS if check.module == training.__name__] == list(training.CHECKS)
    assert len({check.title for check in CHECKS}) == len(CHECKS)
    assert [check.title for check in CHECKS[:7]] == [
        "losses", "figkd", "amp", "compile", "cache", "resume", "speed_64",
    ]  # fmt: skip
