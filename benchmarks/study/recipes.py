"""Recipes of a config: CPU seconds and top-1 of its teacher and of the student that learns from it.

    python benchmarks/study/recipes.py deploy_configs/fonts_cpu.yaml --seeds 1 2 3 4 5 \\
        --recipe shipped --recipe KD distill.method=kd

A recipe is a name and what it changes in the config. The stages are the pipeline's. All share the data; a seed is that
of the teacher's start, order and views, and of the student. The recipes take turns, seed by seed, and those that agree
on the teacher share it. Every finished pair is a line in runs/study/recipes_<config>.jsonl, so that a study that was
stopped goes on. Choose by `val`; `test` is of the last epoch. Writes benchmarks/results/recipes_<config>.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.config import load_config
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json, write_json
from pipeline.core.manifest import sha256_json
from pipeline.core.store import Store
from pipeline.places import environment
from pipeline.run.conductor import run
from pipeline.run.console import ConsoleInterface
from pipeline.run.planning import Selection
from pipeline.stages import distill, logits, teacher
from pipeline.stages.base import Arguments, Stage, Work

RESULTS = Path(__file__).parents[1] / "results"
MEASURED = tuple(
    f"{network}_{figure}" for network in ("teacher", "student") for figure in ("cpu_seconds", "val", "test")
)


def make(stage: Stage, arguments: Arguments, inputs: Mapping[str, Path], out: Path) -> float:
    """Run one stage in a folder of its own, unless it is there; CPU seconds of all threads."""
    said = out / "cpu_seconds.json"
    if not said.is_file():
        scratch = out / "scratch"
        scratch.mkdir(parents=True)
        began = time.process_time()
        stage.run(Work(arguments, inputs, {}, out, scratch, lambda done, total, note: None))
        write_json(said, time.process_time() - began)
    return float(read_json(said))


def data_of(config: DeployConfig) -> Path:
    """The prepared images, from the store if it has them."""
    selection = Selection(until="data")
    return run(config, Store(config.store.folder), ConsoleInterface(0), selection).artifacts["data"].path


def measure(config: DeployConfig, data: Path, seed: int, folder: Path) -> dict[str, float]:
    """Train a teacher, unless `folder` has it, and a student of a seed."""
    taught: Arguments = {**teacher.STAGE.arguments(config, ""), "seed": seed}
    asked = logits.STAGE.arguments(config, "")
    learned: Arguments = {**distill.STAGE.arguments(config, ""), "seed": seed}
    made = {
        "data": data,
        "teacher": folder / sha256_json(taught),
        "logits": folder / sha256_json([taught, asked]),
        "student": folder / sha256_json([taught, asked, learned]),
    }
    seconds = {"teacher": make(teacher.STAGE, taught, made, made["teacher"])}
    make(logits.STAGE, asked, made, made["logits"])
    seconds["student"] = make(distill.STAGE, learned, made, made["student"])
    found: dict[str, float] = {}
    for network, spent in seconds.items():
        scored = read_json(made[network] / "metrics.json")
        found |= {f"{network}_cpu_seconds": round(spent, 1)}
        found |= {f"{network}_{part}": scored[part]["top1"] for part in ("val", "test")}
    return found


def row_of(name: str, changes: Sequence[str], found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Values by seed, with mean and standard deviation."""
    values = {key: [line[key] for line in found] for key in MEASURED}
    spread = {
        key: {"mean": statistics.mean(numbers), "std": statistics.stdev(numbers), "by_seed": numbers}
        for key, numbers in values.items()
    }
    return {"recipe": name, "changes": list(changes), "n": len(found), **spread}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--recipe", nargs="+", action="append", required=True, metavar=("NAME", "KEY=VALUE"))
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="at least two")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    recipes = {name: tuple(changes) for name, *changes in arguments.recipe}
    configs = {name: load_config(arguments.config, list(changes)) for name, changes in recipes.items()}
    first = next(iter(configs.values()))
    data = data_of(first)
    path = Path("runs") / "study" / f"recipes_{first.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done = {(tuple(line["changes"]), line["seed"]): line for line in map(json.loads, lines)}
    with path.open("a", encoding="utf-8") as file:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as folder:
                for name, changes in recipes.items():
                    if (changes, seed) not in done:
                        found = measure(configs[name], data, seed, Path(folder))
                        done[changes, seed] = {"changes": changes, "seed": seed, **found}
                        file.write(json.dumps(done[changes, seed]) + "\n")
                        file.flush()
                        print(name, done[changes, seed], file=sys.stderr, flush=True)
    rows = [
        row_of(name, changes, [done[changes, seed] for seed in arguments.seeds])
        for name, changes in recipes.items()
    ]
    result = {
        "what": "test and validation top-1 (percent) of the last epoch; CPU seconds of the stages",
        "command": f"python {shlex.join(sys.argv)}",
        "seeds": arguments.seeds,
        "rows": rows,
        "git": environment.git_revision(),
        "machine": {"cpu": environment.cpu_model(), "cores": environment.cores()},
        "packages": environment.versions(("torch", "numpy")),
    }
    write_json(arguments.out / f"recipes_{first.name}.json", result)


if __name__ == "__main__":
    main()
