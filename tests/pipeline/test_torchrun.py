"""`torchrun ... figkd-pipeline run`: one run by several processes, of which rank 0 writes; and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import CPU_FILE, FONTS, TINY, command, environment, figkd, quick_command, sets

SMALL: dict[str, Any] = TINY | {"teacher.epochs": 1}


def _metrics(folder: Path, step: str) -> dict[str, Any]:
    (path,) = (folder / ".figkd/artifacts" / step).glob("*/metrics.json")
    return dict(json.loads(path.read_text()))


@pytest.fixture
def port() -> Iterator[int]:
    """A port that no other program is given meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _group(folder: Path, arguments: list[Any], port: int) -> list[subprocess.Popen[str]]:
    """Two processes as torchrun starts them, each a child of the test, so that one can be killed."""
    return [
        subprocess.Popen(
            quick_command("run", *arguments),
            cwd=folder,
            env=environment()
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.mark.slow
def test_torchrun_runs_the_pipeline_unchanged(tmp_path: Path) -> None:
    """Protects the command: each step is made once and said once, and a plain run afterwards finds all of it done."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = command("run", FONTS, "--until", "distill", *sets(SMALL))[1:]
    done = subprocess.run(
        [*launcher, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for step in ("data", "teacher", "logits", "distill"):
        assert len(list((tmp_path / ".figkd/artifacts" / step).iterdir())) == 1
    assert not list((tmp_path / ".figkd/drafts").iterdir())
    assert (done.stdout + done.stderr).count("21 classes:") == 1
    assert _metrics(tmp_path, "distill")["test"]["n"] == 84
    planned = figkd("plan", FONTS, "--until", "distill", "--json", *sets(SMALL), cwd=tmp_path)
    assert {row["state"] for row in planned.json} == {"cached"}


@pytest.mark.slow
def test_the_fine_tuning_of_a_quantised_graph_is_shared(tmp_path: Path, port: int) -> None:
    """Protects stage `qad`: rank 0 decides and writes, both train, and a plain run finds it done."""
    changes = SMALL | {"precision.qad.when": "always", "precision.qad.epochs": 2}
    arguments = [FONTS, "--until", "qad", *sets(changes)]
    outcomes = [(p.communicate(timeout=500)[1], p.returncode) for p in _group(tmp_path, arguments, port)]
    assert [code for _, code in outcomes] == [0, 0], outcomes
    (path,) = (tmp_path / ".figkd/artifacts/qad").glob("*/qad.json")
    facts = json.loads(path.read_text())
    assert set(facts) == {"int8.onnx", CPU_FILE}
    assert all(len(row["history"]) == 2 and row["state"] != "not_needed" for row in facts.values())
    planned = figkd("plan", FONTS, "--until", "qad", "--json", *sets(changes), cwd=tmp_path)
    assert {row["state"] for row in planned.json} == {"cached"}


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_cleanly_and_the_next_one_goes_on(
    victim: int, tmp_path: Path, port: int
) -> None:
    """Protects against hanging and half artifacts: one message, no traceback; then the run is taken up and ends."""
    arguments = [FONTS, "--until", "teacher", *sets(SMALL | {"teacher.epochs": 10})]
    group = _group(tmp_path, arguments, port)
    try:
        deadline = time.monotonic() + 500
        while not list((tmp_path / ".figkd/scratch").glob("teacher.*/state.pt")):
            assert time.monotonic() < deadline and all(process.poll() is None for process in group)
            time.sleep(0.01)
        os.kill(group[victim].pid, signal.SIGKILL)
        said = [process.communicate(timeout=300)[1] for process in group]
    finally:
        for process in group:
            process.kill()
    assert group[victim].returncode == -signal.SIGKILL
    assert group[1 - victim].returncode == 1
    assert "Traceback" not in said[1 - victim]
    assert "another of the 2 processes ended" in said[1 - victim]
    assert not (tmp_path / ".figkd/artifacts/teacher").exists()
    group = _group(tmp_path, arguments, port)
    outcomes = [(process.communicate(timeout=500)[1], process.returncode) for process in group]
    assert [code for _, code in outcomes] == [0, 0], outcomes
    (history,) = (tmp_path / ".figkd/artifacts/teacher").glob("*/history.json")
    assert [record["epoch"] for record in json.loads(history.read_text())] == list(range(1, 11))


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--set", "teacher.epochs=-1"], 2, "teacher.epochs"),
        (["--dry-run", *sets(SMALL)], 0, "logits"),
    ],
)
def test_only_rank_0_speaks(arguments: list[str], code: int, text: str, tmp_path: Path, port: int) -> None:
    """Protects the terminal: what is wrong with a config, and a plan, are shown once, not once a process."""
    group = _group(tmp_path, [FONTS, *arguments], port)
    said = [process.communicate(timeout=300) for process in group]
    assert group[0].returncode == code
    assert text in "".join(said[0])
    assert text not in "".join(said[1]) and "error" not in "".join(said[1])
    assert code or group[1].returncode == 0


def test_half_an_environment_is_named(tmp_path: Path) -> None:
    """Protects against a broken launcher: told what is wrong and what to do, with exit code 4."""
    env = {key: value for key, value in environment().items() if key not in ("RANK", "MASTER_ADDR")}
    done = subprocess.run(
        quick_command("run", FONTS, *sets(SMALL)),
        cwd=tmp_path, env=env | {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "the processes did not come together" in done.stderr and "unset WORLD_SIZE" in done.stderr
