"""`distill`: the student learns from the labels and from the teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from figkd.loss.methods import METHODS
from pipeline.config.schema import DeployConfig, method_section
from pipeline.core.files import read_json, write_json
from pipeline.stages.base import Arguments, Source, Stage, Work
from pipeline.stages.logits import COMPARED, COMPARED_ROWS, is_cached
from pipeline.stages.networks import network_name, network_sources
from pipeline.stages.start import begin, start_arguments, start_of, start_sources
from pipeline.stages.training import (
    VOLATILE,
    keep_network,
    train_options,
    training_arguments,
    views_of,
)

# Softens the teacher's probabilities on its own training images, where they are near 0 and 1.
_CONFUSION_TEMPERATURE = 2.0
_TEACHER_CODE = "teacher_network"
WAVELET_ORDER = "wavelet_order.json"
"""The order in which the wavelet sees the classes; not that of the outputs."""


def _arguments(config: DeployConfig, _target: str) -> Arguments:
    return (
        training_arguments(config.distill)
        | {"model": config.student.model}
        | start_arguments(config.student)
        | method_arguments(config)
    )


def _sources(config: DeployConfig) -> Mapping[str, Source]:
    return {**method_sources(config), **start_sources(config.student)}


def _is_online(config: DeployConfig) -> bool:
    return METHODS[config.distill.method].needs_teacher and not is_cached(config)


def method_sources(config: DeployConfig) -> Mapping[str, Source]:
    """The hierarchy of the classes, if the method reads one; the code of an online teacher of the user's own."""
    hierarchy = config.distill.figkd.hierarchy if config.distill.method == "figkd" else None
    given = {} if hierarchy is None else {"hierarchy": Source(hierarchy, lambda: [hierarchy])}
    return given | (network_sources(config.teacher, _TEACHER_CODE) if _is_online(config) else {})


def method_arguments(config: DeployConfig) -> Arguments:
    """What `distillation_inputs` reads: the method, its options and where the teacher's logits come from."""
    distill = config.distill
    section = method_section(distill)
    return {
        "method": distill.method,
        "options": {} if section is None else section.model_dump(mode="json", exclude={"hierarchy"}),
        "label_smoothing": distill.label_smoothing,
        "image_size": config.data.image_size,
        "seed": config.seed if distill.seed is None else distill.seed,
        "view_seed": config.seed,
        "online_teacher": config.teacher.model if _is_online(config) else None,
    }


def distillation_inputs(work: Work) -> tuple[Arguments, list[str] | None]:
    """What the student learns from: arguments of `figkd.train.train`, and the wavelet's order of the classes by name.

    Args:
        work: of a stage with the arguments of `method_arguments`, the inputs `data`, `teacher` and `logits`, and
            the source `hierarchy` (see `method_sources`).
    """

    from figkd import checkpoint, models
    from figkd.data import class_names, open_split
    from figkd.data.logits import open_logits
    from figkd.files import read_array
    from figkd.loss import build, order

    arguments, data, logits = work.arguments, work.inputs["data"], work.inputs["logits"]
    names, method = class_names(data), METHODS[arguments["method"]]
    options = dict(arguments["options"])
    wavelet_order = None
    if method.uses_order:
        kind = options.pop("order")
        wavelet_order = (
            "random"
            if kind == "random_each_step"
            else order.make_order(
                kind,
                len(names),
                logits=read_array(logits / COMPARED),
                labels=open_split(data, "train").labels[read_array(logits / COMPARED_ROWS)],
                temperature=_CONFUSION_TEMPERATURE,
                groups_file=work.sources.get("hierarchy"),
                classes=names,
                seed=arguments["seed"],
                progress=work.progress,
            )
        )
    given: Arguments = {
        "loss": build.build_loss(
            arguments["method"],
            len(names),
            order=wavelet_order,
            label_smoothing=arguments["label_smoothing"],
            **options,
        )
    }
    if arguments["online_teacher"]:
        teacher = models.build_model(
            network_name(work, arguments["online_teacher"], _TEACHER_CODE),
            len(names),
            image_size=arguments["image_size"],
        )
        checkpoint.load_into(teacher, work.inputs["teacher"] / "model.pt", names)
        given["teacher"] = teacher
    elif method.needs_teacher:
        given["teacher_logits"] = open_logits(logits / "train.npy", classes=names)
    return given, None if wavelet_order is None or isinstance(wavelet_order, str) else [
        names[i] for i in wavelet_order
    ]


def _run(work: Work) -> None:
    import numpy as np

    from figkd.data import class_names, open_split
    from figkd.train import train

    arguments, data = work.arguments, work.inputs["data"]
    split = open_split(data, "train")
    given, wavelet_order = distillation_inputs(work)
    if wavelet_order is not None:
        write_json(work.out / WAVELET_ORDER, wavelet_order)
    model, said_of_weights = begin(start_of(work, trains=True), class_names(data))
    if said_of_weights and work.world.first:
        work.note(f"student: {said_of_weights}")
    history = train(
        model,
        split,
        views=views_of(arguments, split.images.shape[1], arguments["view_seed"]),
        val=open_split(data, "val"),
        pause_after=work.pause_after,
        **given,
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
    does="trains the student on labels and logits",
    leaves="checkpoint, history, wavelet order of the classes",
    version=10,
    inputs=("data", "teacher", "logits"),
    arguments=_arguments,
    sources=_sources,
    run=_run,
    summary=_summary,
    volatile=VOLATILE,
    together=True,
)
