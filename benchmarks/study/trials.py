"""Changes of the default recipe that are not settings of a config, or not of a comparison: one at a time, few seeds.

    python benchmarks/study/trials.py ideas benchmarks/study/characters.yaml --seeds 1001 1002
    python benchmarks/study/trials.py units benchmarks/study/characters.yaml --seeds 1 2 3 4

`ideas`: what could be a better default, by validation images. `units`: the teacher's logits are multiplied, and the
student learns with the weight as it comes, which has the unit of one over logits squared, or with one that is held
against the energy of the logits, here divided by the square of the factor. The order of the classes is that of the
logits as they are. Writes benchmarks/results/<ideas or units>_<name>.json, differences paired by seed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from study import ROOT, Job, prepared, settings_of, train_student
from torch import Tensor, nn

from figkd.loss import build as builder
from figkd.loss import functional
from figkd.loss.methods import METHODS
from pipeline.config import load_config
from pipeline.core.files import write_json
from pipeline.places import environment

WEIGHT = float(METHODS["figkd"].defaults["weight"])


@dataclass(frozen=True)
class Trial:
    """The default recipe with options of its own.

    Attributes:
        options: of `distill.figkd`.
        factor: of the teacher's logits.
        relation: weight of a correlation over the batch at temperature 4, beside what the options say.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    factor: float = 1.0
    relation: float = 0.0


_KL = {
    "distance": "kl",
    "level": "full",
    "band_decay": 0.7,
    "temperature": 4.0,
    "weight": 1.0,
    "batch_weight": 2.0,
}
TRIALS = {
    "ideas": (
        Trial("default recipe"),
        Trial("correlation at temperature 4", {"batch_weight": 0.0}, relation=1.0),
        Trial("correlation at temperature 4, weight 0.25", {"batch_weight": 0.0}, relation=0.25),
        Trial("correlation of weight 4", {"batch_weight": 4.0}),
        Trial("detail of weight 0.04", {"weight": 2 * WEIGHT}),
        Trial("KL form at temperature 4", _KL),
    ),
    "units": (
        Trial("logits as they are"),
        Trial("half the logits"  , factor=0.5),
        Trial("half the logits, weight by energy", {"weight": 4 * WEIGHT}, factor=0.5),
        Trial("twice the logits", factor=2.0),
        Trial("twice the logits, weight by energy", {"weight": WEIGHT / 4}, factor=2.0),
    ),
}  # fmt: skip
SEEN = {"ideas": "val", "units": "test"}


class Changed(nn.Module):
    """A loss as a trial changes it."""

    def __init__(self, loss: nn.Module, trial: Trial) -> None:
        super().__init__()
        self.loss, self.trial = loss, trial

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss."""
        teacher = self.trial.factor * teacher
        value: Tensor = self.loss(student, teacher, labels)
        if self.trial.relation:
            value = value + functional.dist(
                student, teacher, beta=0.0, gamma=self.trial.relation, temperature=4.0
            )
        return value


def train_one(trial: Trial, job: Job) -> dict[str, Any]:
    """A student of one trial."""
    plain = builder.build_loss

    def build(*arguments: Any, **options: Any) -> nn.Module:
        return Changed(plain(*arguments, **options), trial)

    builder.build_loss = build
    try:
        return train_student(job)
    finally:
        builder.build_loss = plain


def row_of(trial: Trial, top1: list[float], plain: list[float]) -> dict[str, Any]:
    """Mean, and the difference to the recipe as it is, paired by seed."""
    gaps = [a - b for a, b in zip(top1, plain, strict=True)]
    return {
        **asdict(trial), "n": len(top1), "top1": top1, "mean": statistics.mean(top1),
        "minus_plain": statistics.mean(gaps), "standard_error": statistics.stdev(gaps) / len(gaps) ** 0.5,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=TRIALS)
    parser.add_argument("config", type=Path)
    parser.add_argument("--lr", type=float, default=0.6)
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="at least two")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    config = load_config(arguments.config, [])
    _, inputs = prepared(config)
    split = SEEN[arguments.what]
    rows: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for trial in TRIALS[arguments.what]:
            own = {f"distill.figkd.{key}": value for key, value in trial.options.items()}
            settings = settings_of("figkd", arguments.lr, own)
            jobs = [Job(arguments.config, settings, seed, inputs) for seed in arguments.seeds]
            top1 = [found[split] for found in pool.map(partial(train_one, trial), jobs, chunksize=1)]
            rows.append(row_of(trial, top1, rows[0]["top1"] if rows else top1))
            print(rows[-1], flush=True)
    result = {
        "what": f"{split} top-1 (percent) of the last epoch",
        "command": f"python {' '.join(sys.argv)}",
        "rows": rows,
        "git": environment.git_revision(),
        "packages": environment.versions(("torch", "numpy")),
    }
    write_json(ROOT / "benchmarks" / "results" / f"{arguments.what}_{config.name}.json", result)


if __name__ == "__main__":
    main()
