"""Untuned recipes on fine and coarse tasks: which one should be the default. One line a student.

    python benchmarks/study/fetch_characters.py data/characters    # and --radicals, fetch_emoji.py: see their heads
    python benchmarks/study/default_recipe.py --tasks characters radicals --seeds 1 2 3 4 5
    python benchmarks/study/recipe_report.py runs/default_recipe

Every recipe has the same learning rate, that of fonts_cpu.yaml, and nothing is tuned. `fonts_cpu` is that config. The
other tasks are made for one slow core, with the networks of `patches.py`. Data, views, losses, orders and the
training loop are the library's. The teacher is trained once a task and its logits of every view are cached; the
students of a seed have the same initial weights and order of images. The test images are looked at after the last
epoch. Finished students are lines of <out>/students.jsonl, so that a study that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import patches
import torch
from torch import nn

from figkd.data import class_names, open_split
from figkd.data.logits import cache_logits, open_logits
from figkd.data.split import Split
from figkd.data.views import Views, make_views
from figkd.errors import FigkdError
from figkd.evaluate import predict
from figkd.loss.build import build_loss
from figkd.loss.order import images_to_compare, make_order
from figkd.models import ImageClassifier, build_model
from figkd.train import train
from pipeline.config import load_config
from pipeline.core.files import read_json, write_json
from pipeline.core.store import Store
from pipeline.run.conductor import Selection, run
from pipeline.run.console import ConsoleInterface
from pipeline.stages.logits import COMPARED

HERE = Path(__file__).parent
GREY = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_CONFUSION_TEMPERATURE = 2.0


@dataclass(frozen=True)
class Task:
    """A data set and how long teacher and students are trained on it; `built_in`: as its config says, networks too."""

    config: Path
    fine: bool
    teacher_epochs: int
    epochs: int
    overrides: tuple[str, ...] = ()
    built_in: bool = False


TASKS: dict[str, Task] = {
    "fonts": Task(
        HERE / "fonts_cpu.yaml", True, 16, 6,
        ("data.options.train_per_class=300",),
    ),
    "characters": Task(HERE / "characters.yaml", True, 16, 6),
    "emoji": Task(HERE / "emoji.yaml", True, 12, 6),
    "fonts_cpu": Task(HERE / "fonts_cpu.yaml", True, 9, 4, built_in=True),
    "radicals": Task(HERE / "radicals.yaml", False, 6, 6),
    "emoji_families": Task(HERE / "emoji_families.yaml", False, 6, 6),
}  # fmt: skip

_SQUARED = {
    "distance": "squared", "level": "fine", "band_decay": 0.5, "temperature": 1.0, "weight": 0.02, "batch_weight": 1.0,
    "batch_temperature": 4.0, "batch_growth": 0.5,
}  # fmt: skip
_COLD = {"batch_temperature": 1.0, "batch_growth": 0.0}
_KL = _COLD | {
    "distance": "kl", "level": "full", "band_decay": 0.7, "temperature": 2.0, "weight": 1.0, "batch_weight": 2.0,
}  # fmt: skip
_WARM = _KL | {"temperature": 4.0}
_WARM_2 = _WARM | {"weight": 2.0}


@dataclass(frozen=True)
class Recipe:
    """A method with options of its own; the weight of a `relative` one is held against the energy of the logits."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    relative: bool = False


RECIPES: dict[str, Recipe] = {
    "ce": Recipe("ce"),
    "kd": Recipe("kd"),
    "dkd": Recipe("dkd"),
    "dist": Recipe("dist"),
    "figkd": Recipe("figkd", _SQUARED),
    "figkd, mean correlation at temperature 1": Recipe("figkd", _SQUARED | _COLD),
    "figkd, relative weight": Recipe("figkd", _SQUARED | _COLD, relative=True),
    "kl, T 2": Recipe("figkd", _KL),
    "kl, T 4": Recipe("figkd", _WARM),
}
"""What is compared; `figkd` is the library's default."""
TRIED: dict[str, Recipe] = {
    "kl, T 4, task 0.1": Recipe("figkd", _WARM | {"ce_weight": 0.1}),
    "kl, T 4, weight 2": Recipe("figkd", _WARM_2),
    "kl, T 4, weight 4": Recipe("figkd", _WARM_2 | {"weight": 4.0}),
    "kl, T 4, weight 2, random order": Recipe("figkd", _WARM_2 | {"order": "random"}),
    "kl, T 4, weight 2, mass power 0.25": Recipe("figkd", _WARM_2 | {"mass_power": 0.25}),
    "kl, T 4, weight 2, by mass": Recipe("figkd", _WARM_2 | {"mass_power": 1.0}),
    "kl, T 4, weight 4, by mass": Recipe("figkd", _WARM_2 | {"weight": 4.0, "mass_power": 1.0}),
    "kl, T 4, weight 4, by mass, decay 0.5": Recipe(
        "figkd", _WARM_2 | {"weight": 4.0, "mass_power": 1.0, "band_decay": 0.5}
    ),
    "Hinton's KL, T 4, weight 2": Recipe("figkd", _WARM_2 | {"mass_power": 1.0, "band_decay": 1.0}),
    "Hinton's KL, T 4, task 0.1": Recipe(
        "figkd", _WARM | {"ce_weight": 0.1, "weight": 0.9, "mass_power": 1.0, "band_decay": 1.0}
    ),
}
"""Tried with one seed, at one learning rate or two, to choose the candidates."""
ALL = RECIPES | TRIED
EPOCHS, LR = 5, 0.6
FONTS_ENERGY = 263.0
"""Mean energy of the detail of the teacher's logits on `fonts_cpu`, where the squared form's weight was tuned."""


def teacher_of(classes: int) -> nn.Module:
    return ImageClassifier(patches.teacher(classes), *GREY)


def student_of(classes: int) -> nn.Module:
    return ImageClassifier(patches.student(classes), *GREY)


@dataclass(frozen=True)
class Prepared:
    """What all students of a task share.

    Attributes:
        data: the prepared data folder.
        views: of the students, one an epoch.
        logits: the teacher's of every view, float16 [N, V, C].
        order: the wavelet's order of the classes [C], by the teacher's confusion.
        energy: mean energy of the default squared detail of the teacher's logits.
        teacher_top1: percent, by split.
    """

    data: Path
    classes: int
    views: Views
    logits: npt.NDArray[np.float16]
    order: npt.NDArray[np.int64]
    energy: float
    teacher_top1: Mapping[str, float]
    student: Callable[[int], nn.Module]
    epochs: int


def prepare(name: str, task: Task, out: Path) -> Prepared:
    """Data, teacher and its logits, made once and kept."""
    config = load_config(task.config, list(task.overrides))
    until = "logits" if task.built_in else "data"
    artifacts = run(config, Store(config.store), ConsoleInterface(0), Selection(until=until)).artifacts
    data, folder, size = artifacts["data"].path, out / name, config.data.image_size
    folder.mkdir(parents=True, exist_ok=True)
    classes, split = len(class_names(data)), open_split(data, "train")
    if task.built_in:
        cached, made = artifacts["logits"].path, read_json(artifacts["teacher"].path / "metrics.json")
        kinds = ("val", "test")
        write_json(folder / "teacher.json", {kind: made[kind]["top1"] for kind in kinds})
        np.save(folder / "compared.npy", np.load(cached / COMPARED))
        logits, epochs = open_logits(cached / "train.npy"), task.epochs
    else:
        _train_teacher(name, task, folder, data, size)
        logits, epochs = open_logits(folder / "logits.npy"), EPOCHS
    store_size = split.images.shape[1]
    count = logits.shape[1]
    views = make_views(
        "shift", image_size=size, store_size=store_size, pad=2, count=count,
        seed=config.seed if task.built_in else 0,
    )  # fmt: skip
    compared = np.load(folder / "compared.npy")
    labels = split.labels[images_to_compare(split.labels)]
    order = make_order(
        "confusion", classes, logits=compared, labels=labels, temperature=_CONFUSION_TEMPERATURE
    )
    squared = build_loss("figkd", classes, order=order, **_SQUARED)
    teacher_logits = torch.from_numpy(compared)
    energy = float(squared.detail(teacher_logits, torch.zeros_like(teacher_logits)))
    student = partial(build_model, "figkd/dsconv_nano", image_size=size) if task.built_in else student_of
    facts = read_json(folder / "teacher.json")
    return Prepared(data, classes, views, logits, order, energy, facts, student, epochs)


def _train_teacher(name: str, task: Task, folder: Path, data: Path, size: int) -> None:
    """Teacher, its logits of every view and of those that tell the order, and its top-1, unless they are there."""
    if (folder / "teacher.json").is_file():
        return
    classes, split = len(class_names(data)), open_split(data, "train")
    seen = partial(make_views, "shift", image_size=size, store_size=split.images.shape[1], pad=2)
    torch.manual_seed(0)
    teacher = teacher_of(classes)
    train(
        teacher, split, loss=build_loss("ce", classes), batch_size=64, lr=0.1, epochs=task.teacher_epochs,
        views=seen(), state_path=folder / "teacher.state", progress=_progress(name),
    )  # fmt: skip
    cache_logits(teacher, split.images, seen(count=task.epochs), folder / "logits.npy")
    rows = images_to_compare(split.labels)
    np.save(folder / "compared.npy", predict(teacher, split.images, image_size=size, rows=rows))
    facts = {kind: top1(teacher, open_split(data, kind), size) for kind in ("train", "val", "test")}
    write_json(folder / "teacher.json", facts)
    print(name, classes, "classes,", len(split), "images, teacher", facts, flush=True)


def top1(model: nn.Module, split: Split, size: int) -> float:
    """Percent of the images whose label is the largest logit."""
    found = predict(model, split.images, image_size=size)
    return 100.0 * float((found.argmax(1) == np.asarray(split.labels)).mean())


def _progress(name: str) -> Callable[[int, int, str], None]:
    last = [time.monotonic()]

    def progress(done: int, total: int, note: str = "") -> None:
        if time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            print(f"  {name} teacher {done}/{total} {note}", flush=True)

    return progress


@dataclass(frozen=True)
class Student:
    """One training."""

    task: str
    recipe: str
    lr: float
    seed: int


def train_student(job: Student, shared: Prepared, recipe: Recipe) -> dict[str, Any]:
    """A finished student as a line: validation and test top-1 of the last epoch."""
    began = time.process_time()
    options = dict(recipe.options)
    order: Any = shared.order
    if options.pop("order", "") == "random":
        order = make_order("random", shared.classes, seed=job.seed)
    if recipe.relative:
        options["weight"] *= FONTS_ENERGY / shared.energy
    loss = build_loss(recipe.method, shared.classes, order=order, **options)
    torch.manual_seed(job.seed)
    student = shared.student(shared.classes)
    found = {"error": ""}
    values = {"val": 0.0, "test": 0.0}
    try:
        train(
            student, open_split(shared.data, "train"), loss=loss, views=shared.views, epochs=shared.epochs,
            batch_size=128, lr=job.lr, seed=job.seed,
            teacher_logits=None if recipe.method == "ce" else shared.logits,
        )  # fmt: skip
        for kind in ("val", "test"):
            values[kind] = top1(student, open_split(shared.data, kind), shared.views.image_size)
    except FigkdError as error:  # a diverged student is a result
        found["error"] = str(error)
    return {**asdict(job), **values, **found, "seconds": round(time.process_time() - began, 1)}


class Lines:
    """Finished students, kept as JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        records = [json.loads(line) for line in lines]
        self.done = {Student(*(r[k] for k in _KEYS)): r for r in records}

    def finish(self, job: Student, shared: Prepared) -> dict[str, Any]:
        """The line of a student, trained if need be."""
        if job not in self.done:
            record = train_student(job, shared, ALL[job.recipe])
            self.done[job] = record
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        return self.done[job]


_KEYS = ("task", "recipe", "lr", "seed")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=ALL)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--prepare", action="store_true", help="data and teachers only")
    parser.add_argument("--out", type=Path, default=Path("runs") / "default_recipe")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    lines = Lines(out / "students.jsonl")
    shared = {name: prepare(name, TASKS[name], out) for name in arguments.tasks}
    if arguments.prepare:
        return
    for seed in arguments.seeds:
        for name in arguments.tasks:
            for recipe in arguments.recipes:
                record = lines.finish(Student(name, recipe, arguments.lr, seed), shared[name])
                print(*(record[key] for key in (*_KEYS, "val", "test", "seconds")), flush=True)


if __name__ == "__main__":
    main()
