"""`logits`: what the teacher says about every view that the student will see, computed once.

With `distill.teacher_logits: online`, or a method without a teacher, there is no such cache. In any case the
teacher's logits of some images of each class, as they are evaluated, are kept: the order of the classes follows from
them.
"""

from __future__ import annotations

from pathlib import Path

from figkd.loss.methods import METHODS
from pipeline.config.schema import DeployConfig
from pipeline.core.errors import StageFailed
from pipeline.core.files import read_json, write_json
from pipeline.stages.base import PREDICTIONS, Arguments, Stage, Work
from pipeline.stages.networks import network_name, network_sources
from pipeline.stages.training import pick_device, views_arguments, views_of

COMPARED, COMPARED_ROWS = "compared.npy", "compared_rows.npy"
"""Logits float32 [M, C] that say which classes are alike, and int64 [M]: of which training images."""


def is_cached(config: DeployConfig) -> bool:
    """Whether the student learns from a cache of the teacher's logits."""
    distill = config.distill
    return distill.teacher_logits == "cached" and METHODS[distill.method].needs_teacher


def _arguments(config: DeployConfig, _target: str) -> Arguments:
    common: Arguments = {"teacher": config.teacher.model, "image_size": config.data.image_size}
    if METHODS[config.distill.method].needs_teacher:
        common["at_chance_level"] = "allowed" if config.teacher.allow_chance_level else "refused"
    if not is_cached(config):
        return common
    return common | {"views": views_arguments(config.distill), "seed": config.seed}


def _run(work: Work) -> None:
    import numpy as np

    from figkd import checkpoint, models
    from figkd.data import class_names, open_split
    from figkd.data.logits import cache_logits
    from figkd.evaluate import predict
    from figkd.loss.order import images_to_compare

    arguments, data = work.arguments, work.inputs["data"]
    _check_teacher(work)
    size, device, names = arguments["image_size"], pick_device(), class_names(data)
    model = models.build_model(network_name(work, arguments["teacher"]), len(names), image_size=size)
    checkpoint.load_into(model, work.inputs["teacher"] / "model.pt", names)
    split = open_split(data, "train")
    images, rows = split.images, images_to_compare(split.labels)
    facts = {"images": len(images), "compared": len(rows), "classes": len(names), "views": 0}
    if "views" in arguments:
        views = views_of(arguments, images.shape[1], arguments["seed"])
        unfinished = work.scratch / "train.npy"
        cache_logits(model, images, views, unfinished, device=device, progress=work.progress, classes=names)
        for part in (unfinished, unfinished.with_name("train.npy.json")):
            part.replace(work.out / part.name)
        facts["views"] = len(views)
    compared = predict(model, images, image_size=size, rows=rows, device=device, progress=work.progress)
    np.save(work.out / COMPARED, compared)
    np.save(work.out / COMPARED_ROWS, rows)
    write_json(work.out / "logits.json", facts)


def _check_teacher(work: Work) -> None:
    """A teacher that guesses teaches noise: refused before hours of it, or at least reported, as in the report."""
    from export.predictions import read_predictions
    from figkd.data import class_names, open_split
    from pipeline.results.standing import standing

    if "at_chance_level" not in work.arguments:  # no student learns from it
        return
    data = work.inputs["data"]
    answers = read_predictions(work.inputs["teacher"] / PREDICTIONS)["teacher"].classes
    found = standing(open_split(data, "test").labels, answers, class_names(data))
    said = (
        f"the teacher answers {found.top1.percent:.1f} % of {found.n} test images right; always naming the most "
        f"frequent class gives {found.majority.percent:.1f} %"
    )
    if found.over_majority.points <= 0 and work.arguments["at_chance_level"] == "refused":
        raise StageFailed(
            said,
            fix="see whether its classes and normalisation are the data's, train it for longer or with another "
            "learning rate; teacher.allow_chance_level: true lets it teach all the same",
        )
    if found.over_majority.low <= 0:
        work.note(f"WARNING: {said}, which is the same within the noise: what it teaches may be noise")


def _summary(out: Path) -> str:
    facts = read_json(out / "logits.json")
    if not facts["views"]:
        return f"no cache; {facts['compared']:,} images as they are evaluated"
    megabytes = (out / "train.npy").stat().st_size / 1e6
    return f"{facts['images']:,} images x {facts['views']} views x {facts['classes']} classes, {megabytes:.1f} MB"


STAGE = Stage(
    name="logits",
    does="runs the teacher once over every view that the student will see",
    leaves="one memory-mapped file",
    version=5,
    inputs=("data", "teacher"),
    arguments=_arguments,
    sources=lambda config: network_sources(config.teacher),
    run=_run,
    summary=_summary,
)
