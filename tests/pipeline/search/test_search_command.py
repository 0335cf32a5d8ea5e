"""`figkd-pipeline search` as a user runs it: bad input, `kill -9`, the config of a point, whose run is all cached."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.entry import execute
from pipeline.results.searched import read_searched
from tests.pipeline.cli.in_process import run
from tests.pipeline.conftest import FONTS, environment, figkd, quick_command, sets
from tests.pipeline.search.tiny import SMALL
from tests.warm import kill

HEAD = f"base: {FONTS}\nname: tiny\n"
REST = "objectives: {val_top1: max, engine_mb@cpu: min}\nsampler: random\nconfirm: false\n"
SEARCH = (
    HEAD + "space: {distill.lr: [0.1, 0.3, 0.6], distill.weight_decay: [0.0, 0.0005]}\n" + REST
    + "halving: {min_epochs: 1, factor: 2}\ntrials: 4\n"
)  # fmt: skip
QUICK = SMALL | {
    "scout": "{min_samples: 20, min_seconds: 0, max_seconds: 0.5, rounds: 2, warmup_ms: 0, memory: false}"
}


def _said(folder: Path, text: str, *arguments: str, capsys: Any) -> tuple[int, str, str]:
    path = folder / "search.yaml"
    path.write_text(text, encoding="utf-8")
    code = execute(["search", str(path), *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + "space: {distill.lrr: [1]}\n" + REST, "did you mean 'lr'?"),
        (HEAD + "space: {distill.lr: []}\n" + REST, "must have at least 1 item"),
        (HEAD + "spaces: {distill.lr: [1]}\n" + REST, "one of `{log: [a, b]}`"),
        (HEAD + "space: {distill.epochs: {int: [1, 200]}, distill.batch_size: {int: [2, 201]}}\n"
         + REST.replace("random", "grid"), "a grid of 40,000 points"),
        (HEAD + "objectives: {val_top1: max, engine_mb@gpu: min}\nspace: {distill.lr: [1]}\n", "no target 'gpu'"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_2(text: str, expected: str, tmp_path: Path, capsys: Any) -> None:
    """Before anything runs; no file is written."""
    code, out, err = _said(tmp_path, text, capsys=capsys)
    assert (code, out) == (2, "") and expected in err and "search.yaml:3: " in err
    assert [path.name for path in tmp_path.iterdir()] == ["search.yaml"]


def test_a_dry_run_says_what_would_be_tried(tmp_path: Path, capsys: Any) -> None:
    """Trials, waves, rungs and the epochs that they take, against everything in full."""
    code, out, err = _said(
        tmp_path, SEARCH, "--dry-run", "--set", "distill.epochs=4", "--set", "search.trials=6", capsys=capsys
    )
    assert (code, err) == (0, "")
    assert "trials: 6 of 6 points in waves of 6, drawn by random" in out
    assert (
        "epochs: 1 -> 2 -> 4" in out and "about 13 epochs of student training; everything in full: 24" in out
    )


def test_what_is_there_is_not_written_over(tmp_path: Path, capsys: Any) -> None:
    """A file of the user's in the place of the page or of the document is refused before anything runs."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    for name in ("search.html", "search.json"):
        (folder / name).write_text("{}")
        code, _, err = _said(tmp_path, SEARCH, "--set", f"output={tmp_path / 'runs'}", capsys=capsys)
        assert code == 2 and name in err
        assert (folder / name).read_text() == "{}"
        (folder / name).unlink()


def _search(folder: Path, *arguments: str) -> list[str | Path]:
    (folder / "search.yaml").write_text(SEARCH, encoding="utf-8")
    few = {
        "search.trials": 2,
        "distill.epochs": 2,
        "precision.modes": "[fp32]",
        "store": folder / "store",
        "output": folder / "runs",
    }
    return ["search", folder / "search.yaml", *sets(QUICK | few), *arguments]


def _killed(folder: Path, reached: Callable[[], bool]) -> bool:
    """Start the search, and kill it as soon as something is reached; False if it was faster than we looked."""
    process = subprocess.Popen(
        quick_command(*_search(folder)),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not reached() and process.poll() is None:
        time.sleep(0.02)
    kill(process)
    return process.returncode == -signal.SIGKILL


def _trials(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("store/searches/*/trials/*.json"))]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_anywhere_it_ends_with_the_same_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 in scouting, in the first epochs and after the promotion; engines' sizes do not differ from run to run.

    Random instants: benchmarks/search_killed.py, and test_study.py with pretended trainings.
    """
    fronts, killed = [], tmp_path / "killed"
    killed.mkdir()
    cut = [
        _killed(killed, lambda: any(killed.glob("store/artifacts/scout@*/*/rows.json"))),
        _killed(killed, lambda: any(trial["rungs"] for trial in _trials(killed))),
        _killed(killed, lambda: any(trial["state"] == "paused" for trial in _trials(killed))),
    ]
    assert any(cut)
    for folder in (tmp_path, killed):
        done = figkd(*_search(folder), cwd=folder)  # with as many threads as those that were killed
        assert done.code == 0, done.err
        result = read_searched(folder / "runs/tiny/search.json")
        fronts.append(
            [(p.id, p.values["val_top1"].value, p.values["engine_mb@cpu"].value) for p in result.front]
        )
        assert sorted(t.state for t in result.trials) == ["finished", "paused"]
        assert result.effort.epochs == 3 and result.effort.epochs_of_everything == 4
        assert not any(t.failures for t in result.trials)
    assert fronts[0] == fronts[1] and fronts[0]
    monkeypatch.chdir(killed)
    # Taken through all stages, the point's config is all cached.
    confirmed = ("--set", "search.confirm=true", "--write-config", "chosen.yaml", "--json")
    again = run(*_search(killed, *confirmed))
    assert again.code == 0, again.err
    points = again.json["points"]
    assert all(p["confirmed"]["engines"] and not p["confirmed"]["failure"] for p in points if p["front"])
    ran = run("run", "chosen.yaml")
    assert "done " not in ran.err and ran.err.count("cached ") == 12, ran.err
