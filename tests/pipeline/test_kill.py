"""kill -9 in every stage: the next run goes on from there and ends with the same artifacts."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import FONTS, TINY, Finished, environment, figkd, quick_command, sets
from tests.warm import kill

pytestmark = pytest.mark.slow

# Latencies differ from run to run by nature; the report shows them.
REPEATABLE = [
    "data",
    "teacher",
    "logits",
    "distill",
    "export",
    "precision",
    "qad",
    "build@cpu",
    "build@rtx",
    "validate@cpu",
    "validate@rtx",
]


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for step in REPEATABLE:
        (manifest,) = (folder / ".figkd/artifacts" / step).glob("*/artifact.json")
        found[step] = json.loads(manifest.read_text())["digest"]
    return found


def _kill_in(step: str, folder: Path, pause: float) -> bool:
    """Start a run and kill it with SIGKILL `pause` seconds after `step` began; False if that was too late."""
    process = subprocess.Popen(
        quick_command("run", FONTS, *sets(TINY)),
        cwd=folder,
        env=environment(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if list((folder / ".figkd/drafts").glob(f"{step}.*")):
            break
        time.sleep(0.002)
    time.sleep(pause)
    kill(process)
    return process.returncode == -signal.SIGKILL and not (folder / ".figkd/artifacts" / step).exists()


@pytest.mark.parametrize(
    ("step", "pause"),
    [
        ("data", 0.05),
        ("teacher", 1.0),
        ("logits", 0.3),
        ("distill", 0.4),
        ("export", 1.0),
        ("precision", 0.5),
        ("build@cpu", 0.0),
        ("build@rtx", 0.3),
        ("validate@cpu", 0.0),
        ("benchmark@cpu", 0.1),
        ("report", 0.1),
    ],
)
def test_a_killed_run_is_continued_to_the_same_result(
    step: str, pause: float, finished: Finished, tmp_path: Path
) -> None:
    """Nothing half-written is taken for whole, nothing finished is lost, and the outcome is bit for bit the same."""
    folders = (tmp_path / str(attempt) for attempt in range(8))
    for attempt, folder in enumerate(folders):
        folder.mkdir()
        if _kill_in(step, folder, pause / 2**attempt):
            break
    else:
        pytest.fail(f"{step} was always over before it could be killed")
    done_before = {p.parent.name for p in (folder / ".figkd/artifacts").glob("*/*")}
    done = figkd("run", FONTS, *sets(TINY), cwd=folder)
    assert done.code == 0, done.err
    assert done.err.count("cached") == len(done_before)
    assert _digests(folder) == _digests(finished.folder)


def test_two_runs_at_once_share_the_work(finished: Finished, tmp_path: Path) -> None:
    """Started together on one store: both succeed, each artifact is made once."""
    arguments = quick_command("run", FONTS, *sets(TINY))
    processes = [
        subprocess.Popen(
            arguments,
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=500)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sum(error.count("done ") for error in errors) == 16, errors
    assert _digests(tmp_path) == _digests(finished.folder)
