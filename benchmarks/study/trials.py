"""Changes of the default recipe that are not settings of a config, or not of a comparison: one at a time, few seeds.

    python benchmarks/study/trials.py ideas benchmarks/study/characters.yaml --seeds 1001 1002
    python benchmarks/study/trials.py default benchmarks/study/characters.yaml --seeds 1003 1004 1005 1006 1007
    python benchmarks/study/trials.py units benchmarks/study/characters.yaml --seeds 1 2 3 4
    python benchmarks/study/trials.py forms benchmarks/study/characters.yaml --seeds 1001 1002 1003 1004 1005

`ideas`: what could be a better default, by validation images. `default`: candidates for the default against baselines,
as they come and as tuned (study_<name>.json), by validation images. `units`: the teacher's logits are multiplied, and
the student learns with the weight as it comes, which has the unit of one over logits squared, or with one that is held
against the energy of the logits, here divided by the square of the factor. The order of the classes is that of the
logits as they are. `forms`: other forms of the default's parts (forms.py), by validation images. Finished students are
lines of runs/study/<what>_<name>.jsonl, so that what was stopped goes on. Writes
benchmarks/results/<what>_<name>.json, differences paired by seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from forms import FORMS, read_known
from study import ROOT, Job, prepared, settings_of, train_student
from torch import Tensor, nn

from figkd.loss import build as builder
from figkd.loss import functional
from figkd.loss.methods import METHODS
from pipeline.config import load_config
from pipeline.core.files import read_json, write_json
from pipeline.places import environment

RESULTS = ROOT / "benchmarks" / "results"
WEIGHT = float(METHODS["figkd"].defaults["weight"])


@dataclass(frozen=True)
class Trial:
    """The default recipe with options of its own, or a baseline.

    Attributes:
        options: of the method.
        factor: of the teacher's logits.
        relation: weight of a correlation over the batch, beside what the options say.
        between: weight of a correlation over the classes, DIST's other term, the same.
        temperature: of the two.
        shared: whether the correlation over the batch is multiplied by sqrt(C / B), so that its gradient's share
            against the cross entropy's does not depend on the number of classes C and of images B.
        method: of `distill.method`.
        tuned: with the settings that the study's tuning chose for the method.
        few: by the first three seeds only.
        form: of the loss, a key of `forms.FORMS`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    factor: float = 1.0
    relation: float = 0.0
    between: float = 0.0
    temperature: float = 4.0
    shared: bool = False
    method: str = "figkd"
    tuned: bool = False
    few: bool = False
    form: str = ""

    def settings(self, study: str, lr: float) -> tuple[tuple[str, str], ...]:
        """Config keys and values as JSON."""
        if not self.tuned:
            own = {f"distill.{self.method}.{key}": value for key, value in self.options.items()}
            return settings_of(self.method, lr, own)
        rows = read_json(RESULTS / f"study_{study}.json")["rows"]
        return tuple(next(row["settings"] for row in rows if row["method"] == self.method).items())


_COLD = {"batch_weight": 1.0, "batch_temperature": 1.0, "batch_growth": 0.0}
"""The correlation as the default had it before: at temperature 1, a mean over the classes."""
_KL = _COLD | {
    "distance": "kl",
    "level": "full",
    "band_decay": 0.7,
    "temperature": 4.0,
    "weight": 1.0,
    "batch_weight": 2.0,
}
_AT_2 = {"temperature": 2.0, "batch_weight": 0.0}
TRIALS = {
    "ideas": (
        Trial("default recipe", _COLD),
        Trial("correlation at temperature 4", {"batch_weight": 0.0}, relation=1.0),
        Trial("correlation at temperature 4, weight 0.25", {"batch_weight": 0.0}, relation=0.25),
        Trial("correlation of weight 4", _COLD | {"batch_weight": 4.0}),
        Trial("detail of weight 0.04", _COLD | {"weight": 2 * WEIGHT}),
        Trial("KL form at temperature 4", _KL),
    ),
    "default": (
        Trial("mean correlation at temperature 1", _COLD),
        Trial("correlation at temperature 4", _COLD | {"batch_weight": 0.0}, relation=1.0),
        Trial("both correlations at temperature 4", _COLD | {"batch_weight": 0.0}, relation=1.0, between=1.0),
        Trial("correlation at temperature 4, shared", _COLD | {"batch_weight": 0.0}, relation=1.0, shared=True),
        Trial("correlation at temperature 2", _COLD | {"batch_weight": 0.0}, relation=1.0, temperature=2.0, few=True),
        Trial("KL form at temperature 2, correlation at 4", _KL | _AT_2, relation=1.0, few=True),
        Trial("KD, as it comes", method="kd"),
        Trial("KD, tuned", method="kd", tuned=True),
        Trial("DIST, as it comes", method="dist", few=True),
        Trial("DIST, tuned", method="dist", tuned=True),
    ),
    "units": (
        Trial("logits as they are"),
        Trial("half the logits"  , factor=0.5),
        Trial("half the logits, weight by energy", {"weight": 4 * WEIGHT}, factor=0.5),
        Trial("twice the logits", factor=2.0),
        Trial("twice the logits, weight by energy", {"weight": WEIGHT / 4}, factor=2.0),
    ),
    "forms": (
        Trial("default recipe"),
        Trial("detail's mean over all shifts of the order", form="shifted"),
        Trial("correlation of the details", form="details"),
        Trial("correlation of all bands", form="all bands"),
        Trial("detail weighted by the teacher's p(label)", form="trusting"),
        Trial("the same at temperature 4", form="trusting at 4"),
        Trial("band weights by information beyond the labels", form="informed"),
        Trial("the same with the low band", form="informed, low band"),
    ),
}  # fmt: skip
SEEN = {"ideas": "val", "default": "val", "units": "test", "forms": "val"}

FEW = 3


class Changed(nn.Module):
    """A loss as a trial changes it."""

    def __init__(self, loss: nn.Module, trial: Trial) -> None:
        super().__init__()
        self.loss, self.trial = loss, trial

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss."""
        teacher = self.trial.factor * teacher
        value: Tensor = self.loss(student, teacher, labels)
        beta, gamma = self.trial.between, self.trial.relation
        if self.trial.shared:
            gamma *= (student.shape[1] / len(student)) ** 0.5
        if beta or gamma:
            value = value + functional.dist(
                student, teacher, beta=beta, gamma=gamma, temperature=self.trial.temperature
            )
        return value


def train_one(job_of: tuple[Trial, Job]) -> dict[str, Any]:
    """A student of one trial."""
    trial, job = job_of
    plain = builder.build_loss

    def build(*arguments: Any, order: Any = None, **options: Any) -> nn.Module:
        def formed(order: Any, **changes: Any) -> nn.Module:
            return plain(*arguments, order=order, **{**options, **changes})

        loss = FORMS[trial.form](formed, order, read_known(job.inputs)) if trial.form else formed(order)
        return Changed(loss, trial)

    builder.build_loss = build
    try:
        return train_student(job)
    finally:
        builder.build_loss = plain


def row_of(trial: Trial, top1: list[float], plain: list[float]) -> dict[str, Any]:
    """Mean, and the difference to the recipe as it is, paired by seed."""
    gaps = [a - b for a, b in zip(top1, plain, strict=False)]
    return {
        **asdict(trial), "n": len(top1), "top1": top1, "mean": statistics.mean(top1),
        "minus_plain": statistics.mean(gaps), "standard_error": statistics.stdev(gaps) / len(gaps) ** 0.5,
    }  # fmt: skip


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


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
    split, name = SEEN[arguments.what], f"{arguments.what}_{config.name}"
    trials = TRIALS[arguments.what]
    seeds = {trial.name: arguments.seeds[: FEW if trial.few else None] for trial in trials}
    pairs = [(trial, seed) for seed in arguments.seeds for trial in trials if seed in seeds[trial.name]]
    path = Path("runs") / "study" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {(line["trial"], line["seed"]): line for line in _lines(path)}
    todo = [(trial, seed) for trial, seed in pairs if (trial.name, seed) not in done]
    jobs = [
        (trial, Job(arguments.config, trial.settings(config.name, arguments.lr), seed, inputs))
        for trial, seed in todo
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool, path.open("a") as file:
        for (trial, seed), found in zip(todo, pool.imap(train_one, jobs), strict=True):
            done[trial.name, seed] = line = {"trial": trial.name, **found}
            print(line, file=sys.stderr, flush=True)
            file.write(json.dumps(line) + "\n")
            file.flush()
    top1 = {trial.name: [done[trial.name, seed][split] for seed in seeds[trial.name]] for trial in trials}
    rows = [row_of(trial, top1[trial.name], top1[trials[0].name]) for trial in trials]
    result = {
        "what": f"{split} top-1 (percent) of the last epoch",
        "command": f"python {' '.join(sys.argv)}",
        "seeds": arguments.seeds,
        "rows": rows,
        "git": environment.git_revision(),
        "packages": environment.versions(("torch", "numpy")),
    }
    write_json(RESULTS / f"{name}.json", result)


if __name__ == "__main__":
    main()
