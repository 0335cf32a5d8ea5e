"""`validate`: what each engine of a target says about the whole test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.schema import DeployConfig, Target
from pipeline.core.files import read_json, write_json
from pipeline.results.class_order import columns, in_order
from pipeline.stages import build
from pipeline.stages.base import PREDICTIONS, Stage, Work
from pipeline.stages.engines import accuracy_of_file, onnx_accuracy, read_logits
from pipeline.stages.precision import inputs_of, score_logits


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
    from export.predictions import Predictions, save_predictions
    from figkd.data import class_names, open_split

    data, built = work.inputs["data"], work.inputs[f"build@{work.arguments['target']}"]
    names, test = class_names(data), open_split(data, "test")
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    in_onnx_runtime = onnx_accuracy(work.inputs)
    # A precision that could not be made has no file to score.
    rows = [row for row in read_json(built / "engines.json") if row["onnx"] in in_onnx_runtime]
    if work.device is not None:
        from pipeline.places import device as remote

        scores, answers = remote.validate(work, rows, in_onnx_runtime)
        write_json(work.out / "accuracy.json", scores)
        save_predictions(work.out / PREDICTIONS, answers)
        return
    results: dict[str, Any] = {}
    said: dict[str, Predictions] = {}
    for done, row in enumerate(rows):
        work.progress(done, len(rows), row["id"])
        if not row["runs"]:
            results[row["id"]] = accuracy_of_file(row, in_onnx_runtime)
            continue
        engine = BACKENDS[row["backend"]].load(built / row["file"], threads=work.arguments["threads"])
        try:
            images = inputs_of(work, test.images)
            logits = in_order(engine.infer(images), columns(built / row["file"], names))
            facts = score_logits(logits, engine, images, test.labels, names, reference)
            results[row["id"]] = {"source": "engine", **facts}
            said[row["id"]] = Predictions.of(logits)
        finally:
            engine.close()
    write_json(work.out / "accuracy.json", results)
    save_predictions(work.out / PREDICTIONS, said)
    work.progress(len(rows), len(rows), "done")


def _summary(out: Path) -> str:
    results = read_json(out / "accuracy.json")
    ran = {name: facts for name, facts in results.items() if facts["source"] == "engine"}
    if not ran:
        return "no engine ran here; accuracy is that of the ONNX files"
    parts = (f"{name.split('/', 1)[1]} {facts['top1']:.1f} %" for name, facts in ran.items())
    return f"top-1 on {next(iter(ran.values()))['n']} test images: " + ", ".join(parts)


STAGE = Stage(
    name="validate",
    does="every engine on the whole test set",
    leaves="accuracy, per class, agreement",
    version=3,
    inputs=("data", "distill", "precision", "qad", "build"),
    arguments=_arguments,
    run=_run,
    summary=_summary,
    environment=build.STAGE.environment,
    device_environment=build.device_environment,
    per_target=True,
)
