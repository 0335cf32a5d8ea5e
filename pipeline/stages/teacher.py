"""`teacher`: train the network that is learnt from, or take one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from figkd.records import Record
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json
from pipeline.stages.base import PREDICTIONS, Arguments, Source, Stage, Work
from pipeline.stages.start import begin, start_arguments, start_of, start_sources
from pipeline.stages.training import (
    VOLATILE,
    keep_network,
    train_options,
    training_arguments,
    views_of,
)


def _arguments(config: DeployConfig, _target: str) -> Arguments:
    teacher = config.teacher
    common = {"model": teacher.model, "image_size": config.data.image_size, "seed": config.seed}
    training = training_arguments(teacher) if teacher.epochs else {"epochs": 0}
    return common | training | start_arguments(teacher)


def _sources(config: DeployConfig) -> Mapping[str, Source]:
    return start_sources(config.teacher)


def _run(work: Work) -> None:
    from export.predictions import Predictions, save_predictions
    from figkd.data import class_names, open_split
    from figkd.loss.build import build_loss
    from figkd.train import train

    arguments, data = work.arguments, work.inputs["data"]
    names = class_names(data)
    model, said = begin(start_of(work, trains=arguments["epochs"] > 0), names)
    if said and work.world.first:
        work.note(f"teacher: {said}")
    history: list[Record] = []
    if arguments["epochs"]:
        split = open_split(data, "train")
        history = train(
            model,
            split,
            loss=build_loss("ce", len(names), label_smoothing=arguments["label_smoothing"]),
            views=views_of(arguments, split.images.shape[1], arguments["seed"]),
            val=open_split(data, "val"),
            **train_options(arguments, work),
        )
    if work.world.first:
        save_predictions(
            work.out / PREDICTIONS, {"teacher": Predictions.of(keep_network(work, model, history, {}))}
        )


def _summary(out: Path) -> str:
    facts = read_json(out / "metrics.json")
    return (
        f"{facts['model']}, {facts['parameters']:,} parameters, "
        f"top-1 {facts['test']['top1']:.1f} % on {facts['test']['n']} test images"
    )


STAGE = Stage(
    name="teacher",
    does="trains the teacher, or takes a checkpoint or pretrained network",
    leaves="checkpoint, history",
    version=3,
    inputs=("data",),
    arguments=_arguments,
    sources=_sources,
    run=_run,
    summary=_summary,
    volatile=VOLATILE,
    together=True,
)
