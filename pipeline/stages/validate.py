"""`validate`: what each engine of a target says about the whole test set."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.schema import DeployConfig
from pipeline.config.targets import Target
from pipeline.places.place import ScoreTask
from pipeline.results.class_order import columns, in_order
from pipeline.results.rows.engines import read_engines
from pipeline.results.rows.scores import ENGINE, Score, read_scores, write_scores
from pipeline.stages import build
from pipeline.stages.base import PREDICTIONS, Arguments, Stage, Work
from pipeline.stages.engines import accuracy_of_file, onnx_accuracy, read_logits
from pipeline.stages.precision import images_of, score_of


def where(target: Target) -> dict[str, str]:
    """The device, for arguments of stages that measure there; nothing for this machine."""
    return {} if target.device == "local" else {"device": target.device}


def _arguments(config: DeployConfig, target: str) -> Arguments:
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
    from export.predictions import Predictions, save_predictions
    from figkd.data import class_names, open_split

    data, built = work.inputs["data"], work.inputs[f"build@{work.arguments['target']}"]
    names, test = class_names(data), open_split(data, "test")
    reference = read_logits(work.inputs["distill"] / "test_logits.npy")
    in_onnx_runtime = onnx_accuracy(work.inputs)
    # A precision that could not be made has no file to score.
    rows = {row.id: row for row in read_engines(built) if row.onnx in in_onnx_runtime}
    task = ScoreTask(
        target=work.arguments["target"],
        rows=[row for row in rows.values() if row.runs],
        built=built,
        images=images_of(work, test.images),
        classes=len(names),
        threads=work.arguments["threads"],
    )
    scores: dict[str, Score] = {}
    answered: dict[str, Predictions] = {}
    for answers in work.place.score(task, work.context):
        file = built / rows[answers.engine].engine.file
        logits = in_order(answers.logits, columns(file, names))
        scores[answers.engine] = score_of(
            logits, test.labels, names, reference, identical_rows=answers.identical_rows, source=ENGINE
        )
        answered[answers.engine] = Predictions.of(logits)
    for name in rows.keys() - scores.keys():
        scores[name] = accuracy_of_file(rows[name], in_onnx_runtime)
    write_scores(work.out, scores)
    save_predictions(work.out / PREDICTIONS, answered)


def _summary(out: Path) -> str:
    ran = {name: score for name, score in read_scores(out).items() if score.source == ENGINE}
    if not ran:
        return "no engine ran here; accuracy is that of the ONNX files"
    parts = (f"{name.split('/', 1)[1]} {score.top1:.1f} %" for name, score in ran.items())
    return f"top-1 on {next(iter(ran.values())).n} test images: " + ", ".join(parts)


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
