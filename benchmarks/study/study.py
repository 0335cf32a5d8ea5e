"""Distillation methods on one config: tuned with the same budget on validation images, compared on test images.

    python benchmarks/study/study.py benchmarks/study/fonts_cpu.yaml --seeds 6 --control-seeds 3
    python benchmarks/study/fetch_faces.py data/fonts100
    python benchmarks/study/study.py benchmarks/study/fonts100.yaml --lr 0.3 0.6 --finalists 2 --seeds 5

1. Tune: every setting of every method (methods.yaml) with one seed, the best few of each method (--finalists) with two
   more; the best mean validation top-1 is taken.
2. Compare: the chosen settings, and the controls, with new seeds; test top-1 of the last epoch, paired by seed (a seed
   fixes the student's initial weights and the order of the images).

All students share the data, the teacher and its logits, as artifacts of the ordinary pipeline; a student is trained by
the ordinary `distill` stage. Every finished student is a line in runs/study/<name>.jsonl, so a study that was stopped
goes on. Writes benchmarks/results/study_<name>.json and the documentation's figure.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from show import ALONE, DEFAULT, OURS, REFERENCE, figure, table

from figkd.loss.methods import METHODS
from pipeline.config import load_config
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json
from pipeline.core.store import Artifact, Store
from pipeline.places import environment
from pipeline.run.conductor import run
from pipeline.run.console import ConsoleInterface
from pipeline.run.planning import Selection
from pipeline.stages import distill
from pipeline.stages.base import Work

ROOT = Path(__file__).parents[2]
TUNING_SEEDS = (1001, 1002, 1003)

Settings = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One student."""

    config: Path
    settings: tuple[tuple[str, str], ...]  # config keys and values as JSON, hashable
    seed: int
    inputs: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """Digest of all that decides the student."""
        said = json.dumps([self.settings, self.seed, [Path(p).name for _, p in self.inputs]])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def prepared(config: DeployConfig) -> tuple[Mapping[str, Artifact], tuple[tuple[str, str], ...]]:
    """The artifacts that all students share (data, teacher, its logits), and the same as a job's inputs."""
    artifacts = run(
        config, Store(config.store.folder), ConsoleInterface(0), Selection(until="logits")
    ).artifacts
    return artifacts, tuple(sorted((name, str(artifact.path)) for name, artifact in artifacts.items()))


def train_student(job: Job) -> dict[str, Any]:
    """Train one student as the `distill` stage does, and return its validation and test top-1."""
    import torch

    torch.set_num_threads(1)
    overrides = [f"{key}={value}" for key, value in job.settings] + [f"distill.seed={job.seed}"]
    config = load_config(job.config, overrides)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scratch").mkdir()
        work = Work(
            arguments=distill.STAGE.arguments(config, ""),
            inputs={name: Path(path) for name, path in job.inputs},
            sources={
                name: source.root for name, source in distill.STAGE.sources(config).items() if source.root
            },
            out=folder,
            scratch=folder / "scratch",
            progress=lambda done, total, note: None,
        )
        try:
            distill.STAGE.run(work)
        except Exception as error:  # a diverged student is a result
            return {"key": job.key, "seed": job.seed, "val": 0.0, "test": 0.0, "error": str(error)}
        facts = read_json(folder / "metrics.json")
    return {
        "key": job.key,
        "settings": dict(job.settings),
        "seed": job.seed,
        "val": facts["val"]["top1"],
        "test": facts["test"]["top1"],
        "seconds": round(time.perf_counter() - began, 1),
    }


class Runs:
    """Finished students of a study, kept as JSON lines."""

    def __init__(self, path: Path, workers: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._workers = path, workers
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._done: dict[str, dict[str, Any]] = {r["key"]: r for r in map(json.loads, lines)}

    def __getitem__(self, job: Job) -> dict[str, Any]:
        return self._done[job.key]

    def finish(self, jobs: Sequence[Job]) -> None:
        """Train what is not done yet, interleaved as the jobs come."""
        todo = list({job.key: job for job in jobs if job.key not in self._done}.values())
        print(f"{len(jobs)} students, {len(todo)} to train", flush=True)
        context = multiprocessing.get_context("spawn")
        with context.Pool(self._workers) as pool, self._path.open("a", encoding="utf-8") as file:
            for count, record in enumerate(pool.imap_unordered(train_student, todo), 1):
                self._done[record["key"]] = record
                file.write(json.dumps(record) + "\n")
                file.flush()
                if count % 10 == 0:
                    print(f"  {count} of {len(todo)}", flush=True)


def settings_of(method: str, lr: float, own: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The config keys of one student, as hashable text."""
    chosen = {"distill.method": method, "distill.lr": lr, **own}
    return tuple((key, json.dumps(value)) for key, value in sorted(chosen.items()))


def tune(
    plan: Mapping[str, Any], runs: Runs, job: Any, finalists_of: int
) -> tuple[dict[str, tuple[tuple[str, str], ...]], list[dict[str, Any]]]:
    """The best settings of every method by validation top-1, and the record of the search."""
    trials = {
        method: [settings_of(method, lr, own) for lr, own in itertools.product(plan["lr"], grid)]
        for method, grid in plan["tuned"].items()
    }
    assert len({len(t) for t in trials.values()}) == 1, "every method gets the same number of trials"
    if all(len(options) == 1 for options in trials.values()):
        return {method: options[0] for method, options in trials.items()}, []
    first, *more = TUNING_SEEDS
    runs.finish([job(s, first) for s in _interleaved(list(trials.values()))])
    finalists = {
        method: sorted(options, key=lambda s: -runs[job(s, first)]["val"])[:finalists_of]
        for method, options in trials.items()
    }
    if finalists_of > 1:  # with one there is nothing left to choose
        runs.finish([job(s, seed) for seed in more for s in _interleaved(list(finalists.values()))])
    tried = TUNING_SEEDS if finalists_of > 1 else (first,)

    def mean(settings: tuple[tuple[str, str], ...]) -> float:
        return statistics.mean(runs[job(settings, seed)]["val"] for seed in tried)

    chosen = {method: max(options, key=mean) for method, options in finalists.items()}
    record = [
        {
            "method": method,
            "settings": dict(s),
            "val_top1": [
                runs[job(s, seed)]["val"] for seed in (tried if s in finalists[method] else (first,))
            ],
            "chosen": s == chosen[method],
        }
        for method, options in trials.items()
        for s in options
    ]
    return chosen, record


def again(
    plan: Mapping[str, Any], runs: Runs, job: Any, earlier: Mapping[str, Any]
) -> tuple[dict[str, tuple[tuple[str, str], ...]], list[dict[str, Any]]]:
    """The settings that an earlier result chose for the baselines; of figkd's settings the learning rates anew."""
    chosen = {
        row["method"]: tuple(sorted(row["settings"].items()))
        for row in earlier["rows"]
        if row["method"] in plan["tuned"]
    }
    ours = [settings_of("figkd", lr, own) for lr in plan["lr"] for own in plan["tuned"]["figkd"]]
    runs.finish([job(settings, TUNING_SEEDS[0]) for settings in ours])
    record = [line for line in earlier["tuning"] if line["method"] in chosen and line["method"] != "figkd"]
    chosen["figkd"] = fixed(plan, runs, job, 0)
    record += [
        {
            "method": "figkd",
            "settings": dict(settings),
            "val_top1": [runs[job(settings, TUNING_SEEDS[0])]["val"]],
            "chosen": settings == chosen["figkd"],
        }
        for settings in ours
    ]
    return chosen, record


def fixed(plan: Mapping[str, Any], runs: Runs, job: Any, place: int) -> tuple[tuple[str, str], ...]:
    """A setting of figkd of which only the learning rate is chosen, by the first tuning seed."""
    trials = [settings_of("figkd", lr, plan["tuned"]["figkd"][place]) for lr in plan["lr"]]
    if len(trials) == 1:
        return trials[0]
    return max(trials, key=lambda s: runs[job(s, TUNING_SEEDS[0])]["val"])


def _interleaved(groups: list[list[Any]]) -> Iterator[Any]:
    for turn in itertools.zip_longest(*groups):
        yield from (item for item in turn if item is not None)


def rows_of(
    compared: Mapping[str, tuple[tuple[str, str], ...]], runs: Runs, job: Any, seeds: Mapping[str, int]
) -> list[dict[str, Any]]:
    """One row a method: test top-1 by seed, mean, standard deviation, differences to KD and to figkd, paired."""
    test = {
        name: [runs[job(s, seed)]["test"] for seed in range(1, seeds[name] + 1)]
        for name, s in compared.items()
    }
    rows = []
    for name, values in test.items():
        row: dict[str, Any] = {
            "method": name,
            "settings": dict(compared[name]),
            "control": name not in (*METHODS, *OURS),
            "n": len(values),
            "test_top1": values,
            "mean": statistics.mean(values),
            "std": statistics.stdev(values),
        }
        for label, other in (("minus_kd", REFERENCE), ("figkd_minus", "figkd")):
            sign = 1 if label == "minus_kd" else -1
            gaps = [sign * (a - b) for a, b in zip(values, test[other], strict=False)]
            row[label] = statistics.mean(gaps)
            row[f"{label}_standard_error"] = statistics.stdev(gaps) / len(gaps) ** 0.5
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--methods", type=Path, default=Path(__file__).with_name("methods.yaml"))
    parser.add_argument("--seeds", type=int, default=5, help="students of each method in the comparison")
    parser.add_argument(
        "--jobs", type=int, default=2, help="students trained at the same time, one core each"
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument(
        "--lr", type=float, nargs="+", help="learning rates to try; default: those of methods.yaml"
    )
    parser.add_argument(
        "--finalists", type=int, default=3, help="settings a method that are tried with all tuning seeds"
    )
    parser.add_argument("--control-seeds", type=int, help="the same for the controls; default: as many")
    parser.add_argument(
        "--chosen", type=Path, help="a result: take the baselines' settings from it, choose figkd's rate only"
    )
    parser.add_argument("--only", nargs="+", help="methods; default: all")
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument("--name", help="of the result; default: the config's")
    parser.add_argument("--out", type=Path, help="folder for result and figure; default: the documentation's")
    arguments = parser.parse_args()

    plan = yaml.safe_load(arguments.methods.read_text(encoding="utf-8"))
    plan["lr"] = arguments.lr or plan["lr"]
    if arguments.only:
        plan["tuned"] = {name: grid for name, grid in plan["tuned"].items() if name in arguments.only}
    config = load_config(arguments.config, arguments.overrides)
    artifacts, inputs = prepared(config)
    common = tuple(tuple(text.split("=", 1)) for text in arguments.overrides)

    def job(settings: tuple[tuple[str, str], ...], seed: int) -> Job:
        return Job(arguments.config, (*common, *settings), seed, inputs)  # type: ignore[arg-type]

    runs = Runs(Path("runs") / "study" / f"{config.name}.jsonl", arguments.jobs)
    if arguments.chosen:
        chosen, search = again(plan, runs, job, read_json(arguments.chosen))
    else:
        chosen, search = tune(plan, runs, job, arguments.finalists)
    title = arguments.name or config.name
    results = arguments.out or ROOT / "benchmarks" / "results"
    compared = dict(chosen)
    places = range(len(plan["tuned"]["figkd"]))
    recipes = {
        name: fixed(plan, runs, job, place) for place, name in zip(places, (DEFAULT, ALONE), strict=False)
    }
    compared |= {name: settings for name, settings in recipes.items() if settings != chosen["figkd"]}
    full = set(compared)
    if not arguments.no_controls:
        for name, settings in recipes.items():
            base = {key: json.loads(value) for key, value in settings}
            lr = base.pop("distill.lr")
            base.pop("distill.method")
            changes = plan["controls"].get(name.removeprefix("figkd, "), {}).items()
            compared |= {changed: settings_of("figkd", lr, base | own) for changed, own in changes}
    few = min(arguments.control_seeds or arguments.seeds, arguments.seeds)
    seeds = {name: arguments.seeds if name in full else few for name in compared}
    runs.finish(
        [
            job(settings, seed)
            for seed in range(1, arguments.seeds + 1)
            for name, settings in compared.items()
            if seed <= seeds[name]
        ]
    )
    rows = rows_of(compared, runs, job, seeds)
    teacher = read_json(artifacts["teacher"].path / "metrics.json")
    result = {
        "what": "test top-1 (percent) of the last epoch; settings chosen on validation images",
        "command": f"python {' '.join(sys.argv)}",
        "overrides": arguments.overrides,
        "teacher": {
            "model": teacher["model"],
            "parameters": teacher["parameters"],
            "test_top1": teacher["test"]["top1"],
            "digest": artifacts["teacher"].digest,
        },
        "student": config.student.model,
        "defaults": METHODS["figkd"].defaults,
        "rows": rows,
        "tuning": search,
        "git": environment.git_revision(),
        "machine": {
            "cpu": environment.cpu_model(),
            "cores": environment.cores(),
            "gpu": environment.gpu_name(),
        },
        "packages": environment.versions(("torch", "numpy", "PyWavelets", "matplotlib", "Pillow")),
    }
    write_json(results / f"study_{title}.json", result)
    figure(
        rows,
        f"{title}: {config.student.model} taught by {config.teacher.model} ({teacher['test']['top1']:.1f} %)",
        (arguments.out or ROOT / "docs" / "images") / f"study_{title}.png",
    )
    print(table(rows))


if __name__ == "__main__":
    main()
