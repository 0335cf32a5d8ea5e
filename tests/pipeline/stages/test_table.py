"""Protects: a stage is declared once; `--help`, the report's inputs, `report` and the documentation follow."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from pipeline import docs
from pipeline.core.store import Store
from pipeline.run import conductor, planning
from pipeline.run.planning import Selection
from pipeline.stages import STAGE_NAMES, table
from pipeline.stages.base import Stage, Work
from pipeline.stages.report import NEEDS
from tests.pipeline.conftest import ROOT
from tests.pipeline.run.test_conductor import CONFIG, _Quiet


def test_every_stage_says_what_it_does() -> None:
    """For the documentation; and the report names no stage that there is not."""
    for stage in table.STAGES:
        assert stage.does and stage.leaves, stage.name
        assert importlib.import_module(f"pipeline.stages.{stage.name}").STAGE.name == stage.name
    assert set(NEEDS) <= set(STAGE_NAMES)


def test_the_report_reads_what_runs_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that it does not know is among the steps that it lists."""
    (report,) = (stage for stage in table.STAGES if stage.name == table.REPORT)
    assert report.inputs == STAGE_NAMES[: STAGE_NAMES.index(table.REPORT)]


def test_what_is_generated_is_up_to_date() -> None:
    """`make docs` writes it; an entry that was added or changed must be in it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == docs.between(readme, "stages", docs.stages_table())
    engines = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert engines == docs.between(engines, "engines", docs.engines_table())
    reference = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert reference == docs.configuration_reference()


def _stage(name: str, inputs: tuple[str, ...], ran: list[str]) -> Stage:
    def write(work: Work) -> None:
        ran.append(name)
        (work.out / "inputs").write_text(" ".join(sorted(work.inputs)))

    return Stage(name, 1, inputs, lambda config, target: {}, write, lambda out: "")


def test_the_report_alone_runs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results from before a stage was added are reported without it, and with it once it has run."""
    ran: list[str] = []
    data, extra = _stage("data", (), ran), _stage("extra", ("data",), ran)
    report = _stage("report", ("data", "extra"), ran)
    store, ui = Store(tmp_path), _Quiet()

    def run(stages: list[Stage], selection: Selection) -> tuple[list[str], str]:
        ran.clear()
        monkeypatch.setattr(planning, "STAGES", stages)
        outcome: Any = conductor.run(CONFIG, store, ui, selection)
        return [*ran], (outcome.artifacts["report"].path / "inputs").read_text()

    alone = Selection(until="report", force=frozenset({"report"}), only_forced=True)
    assert run([data, _stage("report", ("data",), ran)], Selection()) == (["data", "report"], "data")
    assert run([data, extra, report], alone) == (["report"], "data")
    assert run([data, extra, report], Selection()) == (["extra", "report"], "data extra")
    assert run([data, extra, report], alone) == (["report"], "data extra")
