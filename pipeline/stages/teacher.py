"""`teacher`: train the network that is learnt from, or take one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.schema import DeployConfig
from pipeline.files import read_json
from pipeline.stages.base import Source, Stage, Work
from pipeline.stages.training import (
    VOLATILE,
    fresh_model,
    keep_network,
    train_options,
    training_arguments,
    views_of,
)


def _arguments(config: DeployConfig, _target: str) -> dict[str, Any]:
    teacher = config.teacher
    common = {"model": teacher.model, "image_size": config.data.image_size, "seed": config.seed}
    if teacher.checkpoint is not None:
        return common  # its contents are a source
    return common | training_arguments(teacher) | {
        "pretrained": teacher.pretrained,
    }  # fmt: skip


def _sources(config: DeployConfig) -> Mapping[str, Source]:
    checkpoint = config.teacher.checkpoint
    return {} if checkpoint is None else {"checkpoint": Source(checkpoint, lambda: [checkpoint])}


def _run(work: Work) -> None:
    from figkd import checkpoint, losses
    from figkd.data import class_names, open_split
    from figkd.train import train

    arguments, data = work.arguments, work.inputs["data"]
    names = class_names(data)
    size, seed = arguments["image_size"], arguments["seed"]
    model = fresh_model(
        arguments["model"],
        len(names),
        image_size=size,
        pretrained=arguments.get("pretrained", False),
        seed=seed,
    )
    history: list[dict[str, Any]] = []
    if given := work.sources.get("checkpoint"):
        checkpoint.load_into(model, given)
    elif arguments["epochs"]:
        split = open_split(data, "train")
        history = train(
            model,
            split,
            loss=losses.build_loss("ce", len(names), label_smoothing=arguments["label_smoothing"]),
            views=views_of(arguments, split.images.shape[1], seed),
            val=open_split(data, "val"),
            **train_options(arguments, work),
        )
    if work.world.first:
        keep_network(work, model, history, {})


def _summary(out: Path) -> str:
    facts = read_json(out / "metrics.json")
    return (
        f"{facts['model']}, {facts['parameters']:,} parameters, "
        f"top-1 {facts['test']['top1']:.1f} % on {facts['test']['n']} test images"
    )


STAGE = Stage(
    name="teacher",
    version=1,
    inputs=("data",),
    arguments=_arguments,
    sources=_sources,
    run=_run,
    summary=_summary,
    volatile=VOLATILE,
    together=True,
)
