"""Protects `store.remote` in a run: a second machine takes what the first made, and no remote can spoil a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.run.sharing import is_shared, remote_finding
from pipeline.stages.table import STAGES
from tests.pipeline.conftest import FONTS, TINY, Done, figkd, sets


def _run(folder: Path, remote: Path | str, *arguments: str, **changes: object) -> Done:
    folder.mkdir(exist_ok=True)
    small = TINY | {"teacher.epochs": 1, "store.remote": remote} | changes
    return figkd("run", FONTS, *arguments, *sets(small), cwd=folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `share`, which holds the data and the teacher that machine `one` made."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "share").mkdir()
    done = _run(folder / "one", "../share", "--until", "teacher")
    assert done.code == 0, done.err
    assert done.err.count("MB to ../share") == 2
    return folder


def test_a_second_machine_takes_what_the_first_made(shared: Path) -> None:
    """Nothing is made; the artifacts are the same, and a third run needs no remote."""
    done = _run(shared / "two", "../share", "--until", "teacher")
    assert done.code == 0 and done.err.count("MB from ../share") == 2
    names = [
        {p.relative_to(shared / m) for p in (shared / m).glob(".figkd/artifacts/*/*")} for m in ("one", "two")
    ]
    assert names[0] == names[1] and len(names[0]) == 2
    (path,) = (shared / "two/.figkd/artifacts/teacher").glob("*/artifact.json")
    assert json.loads(path.read_text())["provenance"]["remote"] == "../share"
    again = _run(shared / "two", "../gone", "--until", "teacher")
    assert again.code == 0 and "WARNING" not in again.err


def test_what_was_made_before_can_be_brought_there(shared: Path, tmp_path: Path) -> None:
    """`store push`: once; without a remote exit code 2, with one that is not there 4."""
    (tmp_path / "share").mkdir()
    small = sets(TINY | {"teacher.epochs": 1})

    def push(*more: str) -> Done:
        return figkd("store", "push", FONTS, *small, *more, cwd=shared / "one")

    there = f"store.remote={tmp_path}/share"
    assert "2 artifacts" in push("--set", there).out
    assert "0 artifacts" in push("--set", there).out
    assert len(list(tmp_path.glob("share/keys/*/*.json"))) == 2
    assert push().code == 2
    assert push("--set", "store.remote=../gone").code == 4


def test_what_is_forced_is_made_here(shared: Path) -> None:
    done = _run(shared / "forced", "../share", "--until", "teacher", "--force", "data")
    assert (
        done.code == 0 and done.err.count("MB from ../share") == 1
    )  # the same data again, so the teacher is there


def test_a_remote_that_is_not_there_is_one_warning(shared: Path) -> None:
    done = _run(shared / "alone", "../gone", "--until", "data")
    assert done.code == 0
    assert done.err.count("WARNING: store.remote ../gone") == 1 and "is the share mounted?" in done.err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"store.remote": "ssh://me:secret@box/a"}, "store.remote: holds a password"),
        ({"store.remote": "http://box/a"}, "store.remote = 'http://box/a': is of an unknown kind"),
        ({"store.ssh_config": "config"}, "store.ssh_config: is for a store.remote at ssh://"),
        ({"store.remote_gb": 0}, "store.remote_gb = 0: must be greater than 0"),
        ({"store.remot": "a"}, "store.remot: unknown key"),
    ],
)
def test_mistakes_in_the_config(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    done = figkd("plan", FONTS, *sets(changes), cwd=tmp_path)
    assert done.code == 2 and told in done.err, done.err


def test_doctor_asks_the_remote(tmp_path: Path) -> None:
    """One that does not answer is no fault: a run goes on without it."""

    def found(remote: str) -> list[str]:
        config = load_config(FONTS, [f"store.remote={remote}"])
        return [f"{f.state} {f.found}" for f in remote_finding(config)]

    assert list(remote_finding(load_config(FONTS))) == []
    assert found(str(tmp_path)) == [f"ok {tmp_path} answers"]
    assert found(f"{tmp_path}/gone")[0].startswith(f"absent {tmp_path}/gone: there is no such folder")


def test_what_belongs_to_a_machine_is_never_shared() -> None:
    """An engine is code, a latency is that of a machine."""
    own = {stage.name for stage in STAGES if not is_shared(stage)}
    assert {"build", "validate", "benchmark", "report"} <= own
