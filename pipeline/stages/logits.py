"""`logits`: what the teacher says about every view that the student will see, computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.schema import DeployConfig
from pipeline.files import read_json, write_json
from pipeline.stages.base import Stage, Work
from pipeline.stages.training import pick_device, views_arguments, views_of


def _arguments(config: DeployConfig, _target: str) -> dict[str, Any]:
    return {
        "teacher": config.teacher.model,
        "image_size": config.data.image_size,
        "views": views_arguments(config.distill),
        "seed": config.seed,
    }


def _run(work: Work) -> None:
    from figkd import checkpoint, models
    from figkd.data import class_names, open_split
    from figkd.data.logits import cache_logits, open_logits

    arguments, data = work.arguments, work.inputs["data"]
    size, device = arguments["image_size"], pick_device()
    model = models.build_model(arguments["teacher"], len(class_names(data)), image_size=size)
    checkpoint.load_into(model, work.inputs["teacher"] / "model.pt")
    split = open_split(data, "train")
    views = views_of(arguments, split.images.shape[1], arguments["seed"])
    unfinished = work.scratch / "train.npy"
    cache_logits(model, split.images, views, unfinished, device=device, progress=work.progress)
    shape = open_logits(unfinished).shape
    unfinished.replace(work.out / "train.npy")
    write_json(work.out / "logits.json", {"images": shape[0], "views": shape[1], "classes": shape[2]})


def _summary(out: Path) -> str:
    facts = read_json(out / "logits.json")
    megabytes = (out / "train.npy").stat().st_size / 1e6
    return f"{facts['images']:,} images x {facts['views']} views x {facts['classes']} classes, {megabytes:.1f} MB"


STAGE = Stage(
    name="logits", version=1, inputs=("data", "teacher"), arguments=_arguments, run=_run, summary=_summary
)
