"""`distill`: the student learns from the labels and from the teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figkd.methods import METHODS
from pipeline.config.schema import DeployConfig, method_section
from pipeline.files import read_json, write_json
from pipeline.stages.base import Source, Stage, Work
from pipeline.stages.logits import is_cached
from pipeline.stages.training import (
    VOLATILE,
    fresh_model,
    keep_network,
    train_options,
    training_arguments,
    views_of,
)

# Softens the teacher's probabilities on its own training images, where they are near 0 and 1.
_CONFUSION_TEMPERATURE = 2.0


def _arguments(config: DeployConfig, _target: str) -> dict[str, Any]:
    distill = config.distill
    section = method_section(distill)
    options = {} if section is None else section.model_dump(mode="json", exclude={"hierarchy"})
    return training_arguments(distill) | {
        "model": config.student.model,
        "pretrained": config.student.pretrained,
        "image_size": config.data.image_size,
        "method": distill.method,
        "options": options,
        "seed": config.seed if distill.seed is None else distill.seed,
        "view_seed": config.seed,
        "online_teacher": config.teacher.model if _is_online(config) else None,
    }


def _is_online(config: DeployConfig) -> bool:
    return METHODS[config.distill.method].needs_teacher and not is_cached(config)


def _sources(config: DeployConfig) -> Mapping[str, Source]:
    hierarchy = config.distill.figkd.hierarchy if config.distill.method == "figkd" else None
    return {} if hierarchy is None else {"hierarchy": Source(hierarchy, lambda: [hierarchy])}


def _run(work: Work) -> None:
    import numpy as np

    from figkd import checkpoint, losses, models, order
    from figkd.data import class_names, open_split
    from figkd.data.logits import open_logits
    from figkd.train import train

    arguments, data, logits = work.arguments, work.inputs["data"], work.inputs["logits"]
    names, split = class_names(data), open_split(data, "train")
    size, seed, method = arguments["image_size"], arguments["seed"], METHODS[arguments["method"]]
    options = dict(arguments["options"])
    class_order = None
    if method.uses_order:
        kind = options.pop("order")
        class_order = (
            "random"
            if kind == "random_each_step"
            else order.make_order(
                kind,
                len(names),
                logits=np.load(logits / "centre.npy"),
                labels=split.labels,
                temperature=_CONFUSION_TEMPERATURE,
                groups_file=work.sources.get("hierarchy"),
                classes=names,
                seed=seed,
            )
        )
        if not isinstance(class_order, str):
            write_json(work.out / "order.json", [names[i] for i in class_order])
    model = fresh_model(
        arguments["model"], len(names), image_size=size, pretrained=arguments["pretrained"], seed=seed
    )
    source: dict[str, Any] = {}
    if arguments["online_teacher"]:
        teacher = models.build_model(arguments["online_teacher"], len(names), image_size=size)
        checkpoint.load_into(teacher, work.inputs["teacher"] / "model.pt")
        source = {"teacher": teacher}
    elif method.needs_teacher:
        source = {"teacher_logits": open_logits(logits / "train.npy")}
    history = train(
        model,
        split,
        loss=losses.build_loss(
            arguments["method"],
            len(names),
            order=class_order,
            label_smoothing=arguments["label_smoothing"],
            **options,
        ),
        views=views_of(arguments, split.images.shape[1], arguments["view_seed"]),
        val=open_split(data, "val"),
        **source,
        **train_options(arguments, work),
    )
    if not work.world.first:
        return
    said = {"method": arguments["method"], "options": arguments["options"]}
    np.save(work.out / "test_logits.npy", keep_network(work, model, history, said))


def _summary(out: Path) -> str:
    facts = read_json(out / "metrics.json")
    return (
        f"{facts['model']}, {facts['parameters']:,} parameters, {facts['method']}: "
        f"top-1 {facts['test']['top1']:.1f} % on {facts['test']['n']} test images"
    )


STAGE = Stage(
    name="distill",
    version=2,
    inputs=("data", "teacher", "logits"),
    arguments=_arguments,
    sources=_sources,
    run=_run,
    summary=_summary,
    volatile=VOLATILE,
    together=True,
)
