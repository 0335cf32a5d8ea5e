"""`qad`: INT8 files that lose too much are fine-tuned as they stand, by the method that trained the student.

Each INT8 layout is judged and fine-tuned for itself, as the graph that its engine will run. A file that is made here
takes the place of the one of the same name of `precision` (see `engines.onnx_path`). Whether to, and whether it
helped, is decided on validation images; the test set is only looked at to report.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from figkd.records import Record
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json
from pipeline.places.int8_layouts import Layouts
from pipeline.results.rows.scores import Score, write_scores
from pipeline.stages.base import Arguments, Stage, Work
from pipeline.stages.distill import distillation_inputs, method_arguments, method_sources
from pipeline.stages.engines import read_logits
from pipeline.stages.precision import inputs_of, onnx_engine, onnx_file, score
from pipeline.stages.training import pick_device, views_arguments, views_of

if TYPE_CHECKING:
    from torch import nn

    from export.torch_graph import TorchGraph
    from figkd.data import SplitName


def _arguments(_config: DeployConfig, _target: str) -> Arguments:
    return {}  # which files there are, the layouts say


def _layout_arguments(config: DeployConfig, _target: str, layouts: Layouts) -> Arguments:
    qad = config.precision.qad
    allowed = _allowed_drop(config, layouts)
    wanted = {name for name, drop in allowed.items() if qad.when == "always" or drop is not None}
    if qad.when == "never" or not wanted:
        return {"files": {}}
    return method_arguments(config) | {
        "files": {name: None if qad.when == "always" else allowed[name] for name in sorted(wanted)},
        "epochs": qad.epochs,
        "lr": qad.lr,
        "batch_size": qad.batch_size or config.distill.batch_size,
        "accumulate": config.distill.accumulate,
        "replicas": config.distill.replicas,
        "threads": config.distill.threads,
        "views": views_arguments(config.distill),
        "input": config.export.input,
    }


def _allowed_drop(config: DeployConfig, layouts: Layouts) -> dict[str, float | None]:
    """The INT8 files that targets read, each with the least drop that is allowed for it, if anyone said so."""
    found: dict[str, list[float]] = {}
    for name, layout in layouts.items():
        limits = found.setdefault(onnx_file("int8", layout), [])
        goal = config.budgets.top1
        if config.precision.int8_max_drop is not None:
            limits.append(config.precision.int8_max_drop)
        elif (
            goal is not None
            and goal.max_drop is not None
            and (goal.precision is None or "int8" in goal.precision)
            and (goal.target is None or name in goal.target)
        ):
            limits.append(goal.max_drop)
    return {file: min(limits, default=None) for file, limits in found.items()}


def _run(work: Work) -> None:
    from figkd.data import class_names, open_split
    from figkd.errors import TrainingError

    arguments, first = work.arguments, work.world.first
    facts: dict[str, Any] = {}
    timing: dict[str, list[Record]] = {}
    accuracy: dict[str, Score] = {}
    for name, allowed in arguments["files"].items():
        before = work.inputs["precision"] / name
        if not before.is_file():  # `precision` says why
            continue
        row: dict[str, Any] = {}
        if first:
            work.progress(0, 1, f"{name} on validation images")
            student = read_json(work.inputs["distill"] / "metrics.json")["val"]
            row = {"val_n": student["n"], "student_val": student["top1"], "val_before": _top1(work, before)}
        if not work.world.broadcast(first and too_far(row["student_val"], row["val_before"], allowed)):
            facts[name] = row | {"state": "not_needed"}
            continue
        try:
            graph, history = fine_tune(work, before)
        except TrainingError as error:  # in all processes alike; the file as it was made stands
            facts[name] = row | {"state": "diverged", "why": error.what}
            continue
        if not first:
            continue
        _write(graph, work.out / name)
        timing[name] = [record.pop("timing") for record in history]
        row |= {
            "method": arguments["method"], "epochs": arguments["epochs"], "lr": arguments["lr"],
            "val_after": _top1(work, work.out / name), "history": history,
        }  # fmt: skip
        if row["val_after"] <= row["val_before"]:
            (work.out / name).unlink()
            facts[name] = row | {"state": "no_better"}
            continue
        facts[name] = row | {"state": "tuned"}
        work.progress(0, 1, f"accuracy of {name}")
        test = open_split(work.inputs["data"], "test")
        engine = onnx_engine(work.out / name)
        try:
            accuracy[name] = score(
                engine,
                inputs_of(work, test.images),
                test.labels,
                class_names(work.inputs["data"]),
                read_logits(work.inputs["distill"] / "test_logits.npy"),
            )
        finally:
            engine.close()
    write_json(work.out / "qad.json", facts)
    write_json(work.out / "timing.json", timing)
    write_scores(work.out, accuracy)


def too_far(student: float, quantised: float, allowed: float | None) -> bool:
    """Whether INT8 is to be fine-tuned: it loses more than `allowed` percentage points; None is always."""
    return allowed is None or student - quantised > allowed


def _top1(work: Work, file: Path, part: SplitName = "val") -> float:
    """Top-1 of an ONNX file in ONNX Runtime, percent of a split."""
    from figkd.data import open_split
    from figkd.evaluate import topk_accuracy

    split, engine = open_split(work.inputs["data"], part), onnx_engine(file)
    try:
        return topk_accuracy(engine.infer(inputs_of(work, split.images)), split.labels)
    finally:
        engine.close()


def fine_tune(work: Work, file: Path) -> tuple[TorchGraph, list[Record]]:
    """Train the graph of a quantised file on what the student learnt from; it and its record by epoch."""
    from onnx import numpy_helper

    from export import graph as onnx_graph
    from export.torch_graph import TorchGraph
    from figkd.data import open_split
    from figkd.train import train

    arguments = work.arguments
    originals = onnx_graph.initializers(onnx_graph.load_model(work.inputs["precision"] / "fp32.onnx"))
    graph = TorchGraph(
        onnx_graph.load_model(file),
        weights={name: numpy_helper.to_array(tensor) for name, tensor in originals.items()},
    )
    split = open_split(work.inputs["data"], "train")
    given, _ = distillation_inputs(work)
    history = train(
        _taking_images(graph, work),
        split,
        views=views_of(arguments, split.images.shape[1], arguments["view_seed"]),
        val=open_split(work.inputs["data"], "val"),
        epochs=arguments["epochs"],
        batch_size=arguments["batch_size"],
        accumulate=arguments["accumulate"],
        replicas=arguments["replicas"],
        threads=arguments["threads"],
        optimizer="adamw",
        lr=arguments["lr"],
        weight_decay=0.0,
        schedule="cosine",
        seed=arguments["seed"],
        device=pick_device(),
        state_path=work.scratch / f"{file.stem}.pt",
        world=work.world,
        progress=work.progress,
        **given,
    )
    return graph, history


def _taking_images(graph: TorchGraph, work: Work) -> nn.Module:
    """The graph as a module of uint8 images: one that takes normalised floats gets the student's normalisation."""
    if work.arguments["input"] == "uint8_nhwc":
        return graph
    from figkd import checkpoint
    from figkd.models import ImageClassifier

    state = checkpoint.load(work.inputs["distill"] / "model.pt").state
    return ImageClassifier(graph, state["mean"].tolist(), state["std"].tolist())


def _write(graph: TorchGraph, path: Path) -> None:
    from export.graph import save_model

    save_model(graph.to_onnx(), path)


def _summary(out: Path) -> str:
    facts = read_json(out / "qad.json")
    if not facts:
        return "not asked for"
    parts = []
    for name, row in facts.items():
        if row["state"] == "diverged":
            parts.append(f"{name.removesuffix('.onnx')} not fine-tuned: {row['why']}")
            continue
        drops = [row["student_val"] - row[key] for key in ("val_before", "val_after") if key in row]
        said = {"not_needed": "within budget", "no_better": "no better, not kept", "tuned": "fine-tuned"}
        change = " -> ".join(f"{drop:.2f}" for drop in drops)
        parts.append(
            f"{name.removesuffix('.onnx')} {said[row['state']]} (drop {change} pp on validation images)"
        )
    return ", ".join(parts)


STAGE = Stage(
    name="qad",
    does="fine-tunes an INT8 file that misses its accuracy budget, by the same distillation",
    leaves="the file with new weights and scales",
    version=7,
    inputs=("data", "teacher", "logits", "distill", "precision"),
    arguments=_arguments,
    layout_arguments=_layout_arguments,
    sources=method_sources,
    run=_run,
    summary=_summary,
    together=True,
    volatile=frozenset({"timing.json"}),
)
