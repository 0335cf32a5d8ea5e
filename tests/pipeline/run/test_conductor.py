"""The conductor on stages of a few lines: what the disk and damaged notes do to a run."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from figkd.progress import no_progress
from pipeline.core.errors import EnvironmentFault, Exit
from pipeline.core.store import Store
from pipeline.run import conductor, planning
from pipeline.stages.base import Stage, Work

CONFIG: Any = SimpleNamespace(name="c", targets={}, store=SimpleNamespace(remote=None))


class _Quiet:
    """An interface that says nothing."""

    def step_started(self, step: str, reason: str) -> Any:
        return no_progress

    def step_finished(self, step: str, summary: str, seconds: float, artifact: Path) -> None: ...

    def step_cached(self, step: str, summary: str) -> None: ...

    def step_failed(self, step: str, error: Exception) -> None: ...

    def note(self, text: str) -> None: ...


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The only stage writes a file; how often it did."""
    ran: list[int] = []

    def write(work: Work) -> None:
        ran.append(1)
        (work.out / "file").write_text("x")

    made = Stage("data", 1, (), lambda config, target: {}, write, lambda out: "")
    monkeypatch.setattr(planning, "STAGES", [made])
    return ran


def test_a_disk_that_is_full_while_the_store_writes(
    stage: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as that, with exit code 4, wherever it happens; a later run goes on."""
    for owner, name in ((Store, "commit"), (Store, "draft"), (Store, "scratch"), (conductor, "write_json")):
        with monkeypatch.context() as patch:

            def full(*_: object, **__: object) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(owner, name, full)
            with pytest.raises(EnvironmentFault, match="no space left") as error:
                conductor.run(CONFIG, Store(tmp_path / name), _Quiet())
            assert error.value.exit_code == Exit.ENVIRONMENT and error.value.where == "data"
        conductor.run(CONFIG, Store(tmp_path / name), _Quiet())


@pytest.mark.parametrize(
    "text", ["[1]", "3", '{"data": 3}', '{"data": "../../../x"}', "{", "[" * 100_000, '{"data": ""}']
)
def test_a_damaged_note_of_what_was_used_last(stage: list[int], tmp_path: Path, text: str) -> None:
    """It says why a step runs, and nothing else depends on it."""
    store = Store(tmp_path)
    conductor.run(CONFIG, store, _Quiet())
    (tmp_path / "last" / "c.json").write_text(text)
    outcome = conductor.run(CONFIG, store, _Quiet())
    assert outcome.ran == [] and list(outcome.artifacts) == ["data"] and len(stage) == 1
    (tmp_path / "last" / "c.json").write_text(text)
    (outcome.artifacts["data"].path / "artifact.json").write_text("{}")
    assert conductor.run(CONFIG, store, _Quiet()).ran == ["data"]


def test_a_run_leaves_no_scratch(stage: list[int], tmp_path: Path) -> None:
    """Neither of its own nor of one that was killed before it could clean up."""
    store = Store(tmp_path)
    outcome = conductor.run(CONFIG, store, _Quiet())
    key = outcome.artifacts["data"].path.name.split(".")[0]
    left = tmp_path / "scratch" / f"data.{key}"
    assert not left.exists()
    left.mkdir()
    (left / "state.pt").touch()
    conductor.run(CONFIG, store, _Quiet())
    assert not left.exists()


def test_a_stage_that_was_begun_is_not_said_to_be_never_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of training that a kill left behind: `plan` and `-v` say that there is something to go on from."""

    def stop(work: Work) -> None:
        (work.scratch / "state").write_text("half")
        raise KeyboardInterrupt

    made = Stage("data", 1, (), lambda config, target: {}, stop, lambda out: "")
    monkeypatch.setattr(planning, "STAGES", [made])
    assert [step.reason for step in planning.plan(CONFIG, Store(tmp_path))] == ["never made"]
    with pytest.raises(KeyboardInterrupt):
        conductor.run(CONFIG, Store(tmp_path), _Quiet())
    assert [step.reason for step in planning.plan(CONFIG, Store(tmp_path))] == [
        "begun before, and not finished"
    ]
