"""`validate`: what each engine of a target says about the whole test set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.schema import DeployConfig, Target
from pipeline.files import read_json, write_json
from pipeline.stages import build
from pipeline.stages.base import Stage, Work
from pipeline.stages.precision import inputs_of, read_logits, score
from pipeline.stages.qad import onnx_accuracy


def where(target: Target) -> dict[str, str]:
    """The device, for arguments of stages that measure there; nothing for this machine."""
    return {} if target.device == "local" else {"device": target.device}


def _arguments(config: DeployConfig, target: str) -> dict[str, Any]:
    section = config.targets[target]
    return {
        "target": target,
        "engine": section.engine,
        "threads": section.threads,
        "image_size": config.data.image_size,
        "input": config.export.input,
        **where(section),
    }


def _run(work: Work) -> None:
    from export.engines import BACKENDS
    from figkd.data import class_names, open_split

    data, built = work.inputs["data"], work.inputs[f"build@{work.arguments['target']}"]
    names, test = class_names(data), open_split(data, "test")
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    rows = read_json(built / "engines.json")
    in_onnx_runtime = onnx_accuracy(work.inputs)
    if work.device is not None:
        from pipeline.devices import remote

        write_json(work.out / "accuracy.json", remote.validate(work, rows, in_onnx_runtime))
        return
    results: dict[str, Any] = {}
    for done, row in enumerate(rows):
        work.progress(done, len(rows), row["id"])
        if not row["runs"]:
            results[row["id"]] = accuracy_of_file(row, in_onnx_runtime)
            continue
        engine = BACKENDS[row["backend"]].load(built / row["file"], threads=work.arguments["threads"])
        try:
            images = inputs_of(work, test.images)
            results[row["id"]] = {"source": "engine", **score(engine, images, test.labels, names, reference)}
        finally:
            engine.close()
    write_json(work.out / "accuracy.json", results)
    work.progress(len(rows), len(rows), "done")


def accuracy_of_file(row: Mapping[str, Any], in_onnx_runtime: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for an engine that does not run: its ONNX file's accuracy, and where that comes from."""
    how = "emulated in" if row["precision"] == "bf16" else "in"
    return {"source": f"{row['onnx']} {how} ONNX Runtime", **in_onnx_runtime[row["onnx"]]}


def _summary(out: Path) -> str:
    results = read_json(out / "accuracy.json")
    ran = {name: facts for name, facts in results.items() if facts["source"] == "engine"}
    if not ran:
        return "no engine ran here; accuracy is that of the ONNX files"
    parts = (f"{name.split('/', 1)[1]} {facts['top1']:.1f} %" for name, facts in ran.items())
    return f"top-1 on {next(iter(ran.values()))['n']} test images: " + ", ".join(parts)


STAGE = Stage(
    name="validate",
    version=1,
    inputs=("data", "distill", "precision", "qad", "build"),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=build.STAGE.environment,
    device_environment=build.device_environment,
    per_target=True,
)
