"""Does it help to update the class order while the student learns?

    python benchmarks/study/updated_order.py benchmarks/study/fonts_cpu.yaml --lr 0.6 --seeds 6

Trains students by the detail alone in three ways, with the same seeds: in the teacher's order throughout; in an
order made again after every epoch from what the *student* confused in it; and from what the student confused more than
the teacher did, which is where the teacher has something to teach. The first epoch has the teacher's order in all.
Writes benchmarks/results/updated_order_<name>.json.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study import ROOT, Job, prepared, settings_of, train_student
from torch import Tensor, nn

from figkd.data import open_split
from figkd.loss import build as builder
from figkd.loss.order import confusion_order
from pipeline.config import load_config
from pipeline.core.files import write_json
from pipeline.places import environment

KINDS = ("teacher, once", "student, every epoch", "student beyond teacher, every epoch")
# As for the order that the `distill` stage makes.
TEMPERATURE = 2.0


class UpdatedOrder(nn.Module):
    """The loss `make(order)`, made again with another order every `steps` calls."""

    def __init__(self, make: Any, order: Any, *, classes: int, steps: int, beyond: bool) -> None:
        super().__init__()
        self.make, self.loss, self.steps, self.beyond = make, make(order), steps, beyond
        self.calls = 0
        self.confused = torch.zeros(2, classes, classes, dtype=torch.float64)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss; counts what student and teacher confuse."""
        if self.calls and self.calls % self.steps == 0:
            ours, theirs = (self.confused / self.confused.sum(2, keepdim=True).clamp_min(1e-9)).numpy()
            more = np.maximum(ours - theirs, 0.0) if self.beyond else ours
            self.loss = self.make(confusion_order(more))
            self.confused.zero_()
        self.calls += 1
        with torch.no_grad():
            for total, logits in zip(self.confused, (student, teacher), strict=True):
                total.index_add_(0, labels, torch.softmax(logits.double() / TEMPERATURE, dim=1))
        value: Tensor = self.loss(student, teacher, labels)
        return value


def train_one(kind: str, steps: int, job: Job) -> dict[str, Any]:
    """A student of one kind; runs in a process of its own."""
    plain = builder.build_loss

    def build(method: str, classes: int, *, order: Any, **options: Any) -> nn.Module:
        def make(by: Any) -> nn.Module:
            return plain(method, classes, order=by, **options)

        return UpdatedOrder(make, order, classes=classes, steps=steps, beyond="beyond" in kind)

    builder.build_loss = plain if kind == KINDS[0] else build
    return train_student(job)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--lr", type=float, required=True, help="the one that the study chose")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    config = load_config(arguments.config, [])
    artifacts, inputs = prepared(config)
    count = len(open_split(artifacts["data"].path, "train"))
    steps = math.ceil(count / config.distill.batch_size)
    jobs = [
        Job(
            arguments.config,
            settings_of("figkd", arguments.lr, {"distill.figkd.batch_weight": 0.0}),
            seed,
            inputs,
        )
        for seed in range(1, arguments.seeds + 1)
    ]
    rows: list[dict[str, Any]] = []
    # A process for each student: what it builds losses with is its own.
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, maxtasksperchild=1) as pool:
        for kind in KINDS:
            found = pool.map(partial(train_one, kind, steps), jobs, chunksize=1)
            row: dict[str, Any] = {"order": kind, "n": len(found)}
            for split in ("val", "test"):
                values = [one[split] for one in found]
                gaps = [a - b for a, b in zip(values, (rows or [{split: values}])[0][split], strict=True)]
                row |= {
                    split: values,
                    f"{split}_mean": statistics.mean(values),
                    f"{split}_std": statistics.stdev(values),
                    f"{split}_minus_teacher": statistics.mean(gaps),
                    f"{split}_minus_teacher_standard_error": statistics.stdev(gaps) / len(gaps) ** 0.5,
                }
            rows.append(row)
            print(json.dumps({key: value for key, value in row.items() if key not in ("val", "test")}))
    result = {
        "what": "top-1 (percent) of the last epoch, detail alone",
        "command": f"python {' '.join(sys.argv)}",
        "rows": rows,
        "git": environment.git_revision(),
        "packages": environment.versions(("torch", "numpy", "scipy")),
    }
    write_json(ROOT / "benchmarks" / "results" / f"updated_order_{config.name}.json", result)


if __name__ == "__main__":
    main()
