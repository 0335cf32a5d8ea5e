"""`report`: result.json from the artifacts of all stages, and the pages that show it."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json, write_text
from pipeline.stages.base import Arguments, Stage, Work

NEEDS = (
    "data",
    "teacher",
    "logits",
    "distill",
    "export",
    "precision",
    "qad",
    "build",
    "validate",
    "benchmark",
)
"""Stages without which there is nothing to report."""


def _arguments(config: DeployConfig, _target: str) -> Arguments:
    return {"config": config.model_dump(mode="json", exclude={"scout", "search"})}


def _run(work: Work) -> None:
    from pipeline.report.contact_sheet import contact_sheet
    from pipeline.report.html import render_html
    from pipeline.report.markdown import render_markdown
    from pipeline.report.pictures import pictures
    from pipeline.results.assemble import assemble
    from pipeline.stages.findings import read_findings

    work.progress(0, 3, "result.json")
    config = DeployConfig.model_validate(work.arguments["config"])
    failures = work.arguments.get("failures", {})
    result = assemble(config, read_findings(list(config.targets), work.inputs, failures))
    write_json(work.out / "result.json", result.model_dump(mode="json"))
    work.progress(1, 3, "report.html")
    data, side = work.inputs["data"], work.arguments["config"]["data"]["image_size"]
    page = render_html(result, pictures(data, result.mistakes, side), contact_sheet(data, side))
    write_text(work.out / "report.html", page)
    work.progress(2, 3, "report.md")
    write_text(work.out / "report.md", render_markdown(result))
    work.progress(3, 3, "done")


def _summary(out: Path) -> str:
    return str(read_json(out / "result.json")["verdict"]).replace("_", " ")


STAGE = Stage(
    name="report",
    does="budgets, what to ship",
    leaves="`report.html`, `report.md`, `result.json`",
    version=4,
    inputs=NEEDS,  # and all others that run before it: see `table`
    arguments=_arguments,
    run=_run,
    summary=_summary,
)
