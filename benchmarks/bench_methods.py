"""Distillation methods side by side on `fonts_cpu`: same teacher, same logits, same students' seeds.

    python benchmarks/bench_methods.py [--seeds 3] [--methods ce kd logit_mse centred_logit_mse figkd] [--set KEY=VALUE]

Every student is a stage of the ordinary pipeline, so a run that was stopped goes on where it was. Test top-1 of the
last epoch. Differences are paired by seed: the mean, its standard error, and n. Hyper-parameters of `figkd` were chosen
on validation data; those of the baselines are the published or plain defaults of the config, untuned.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from pipeline import environment
from pipeline.conductor import Selection, run
from pipeline.config import load_config
from pipeline.console import ConsoleInterface
from pipeline.files import read_json, write_json
from pipeline.store import Store

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "methods_fonts_cpu.json"


def spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--methods", nargs="+", default=["ce", "kd", "logit_mse", "centred_logit_mse", "figkd"]
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()

    ui = ConsoleInterface(0)
    top1: dict[str, list[float]] = {method: [] for method in arguments.methods}
    teacher: dict[str, Any] = {}
    for seed in range(1, arguments.seeds + 1):
        for (
            method
        ) in arguments.methods:  # methods take turns, so that a disturbed machine harms none in particular
            overrides = [*arguments.overrides, f"distill.method={method}", f"distill.seed={seed}"]
            config = load_config(ROOT / "deploy_configs" / "fonts_cpu.yaml", overrides)
            ui.note(f"{method}, seed {seed}")
            outcome = run(config, Store(config.store), ui, Selection(until="distill"))
            facts = read_json(outcome.artifacts["distill"].path / "metrics.json")
            top1[method].append(facts["test"]["top1"])
            teacher = read_json(outcome.artifacts["teacher"].path / "metrics.json")
            teacher["digest"] = outcome.artifacts["teacher"].digest
    reference = top1.get("ce", [])
    rows = []
    for method, values in top1.items():
        row: dict[str, Any] = {
            "method": method,
            "n": len(values),
            "test_top1": values,
            "mean": statistics.mean(values),
            "std": spread(values),
        }
        if reference and method != "ce":
            differences = [a - b for a, b in zip(values, reference, strict=True)]
            row["gain_over_ce"] = statistics.mean(differences)
            row["gain_standard_error"] = spread(differences) / len(differences) ** 0.5
        rows.append(row)
    result = {
        "what": "test top-1 (percent) of the student on fonts, last epoch",
        "command": f"python benchmarks/bench_methods.py --seeds {arguments.seeds}",
        "overrides": arguments.overrides,
        "teacher": {
            "test_top1": teacher["test"]["top1"],
            "parameters": teacher["parameters"],
            "digest": teacher["digest"],
        },
        "rows": rows,
        "machine": {
            "cpu": environment.cpu_model(),
            "cores": environment.cores(),
            "gpu": environment.gpu_name(),
        },
        "packages": environment.versions(("torch", "numpy", "PyWavelets", "matplotlib")),
    }
    write_json(arguments.out, result)
    print(f"teacher: {teacher['test']['top1']:.1f} % test top-1")
    print(
        "| method | n | test top-1, mean ± std | gain over CE, mean ± standard error |\n| --- | --- | --- | --- |"
    )
    for row in rows:
        gain = (
            f"{row['gain_over_ce']:+.1f} ± {row['gain_standard_error']:.1f}" if "gain_over_ce" in row else "–"
        )
        print(f"| {row['method']} | {row['n']} | {row['mean']:.1f} ± {row['std']:.1f} | {gain} |")


if __name__ == "__main__":
    main()
