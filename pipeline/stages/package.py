"""`package`: what the verdict ships for a target, as a bundle that classifies a photo on its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json
from pipeline.results.result import Result
from pipeline.stages import build
from pipeline.stages.base import Stage, Work
from pipeline.stages.packing import Choice, content_of, why_not

FILE = "package.json"
"""`bundle`: name of the folder beside it, null where there is none; `release`: its id; `why`: why there is none."""


def _arguments(config: DeployConfig, target: str) -> dict[str, Any]:
    from export.bundle.archive import runtime_archive

    runtime = hashlib.sha256(runtime_archive()).hexdigest()  # it lies in the bundle
    return {
        "target": target,
        "engine": config.targets[target].engine,
        "runtime": runtime,
        "bundle": config.bundle.model_dump(mode="json"),
    }


def _run(work: Work) -> None:
    from export.bundle.write import write_bundle

    text = (work.inputs["report"] / "result.json").read_text(encoding="utf-8")
    result, target, said = (
        Result.model_validate_json(text),
        work.arguments["target"],
        work.arguments["bundle"],
    )
    choice = Choice(
        target,
        channel=said["channel"],
        licence=said["licence"],
        unshipped=said["allow_unshipped"],
        counts=said["counts"],
    )
    if why := why_not(result, choice):
        write_json(work.out / FILE, {"bundle": None, "release": "", "why": why})
        return
    work.progress(0, 1, "packing")
    folder, manifest = write_bundle(content_of(work.inputs, result, choice), work.out)
    write_json(work.out / FILE, {"bundle": folder.name, "release": manifest.release, "why": ""})
    work.progress(1, 1, "done")


def _summary(out: Path) -> str:
    found = read_json(out / FILE)
    return str(found["bundle"] or f"no bundle: {found['why']}")


STAGE = Stage(
    name="package",
    version=2,
    inputs=("data", "precision", "qad", "build", "report"),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=build.STAGE.environment,
    device_environment=build.device_environment,
    per_target=True,
    does="what the verdict ships as a bundle: engine, labels, preprocessing, golden data, runtime",
    leaves="a bundle for each target that ships (docs/deploy.md)",
)
