"""The demonstration as it is against an earlier commit: seconds of the whole run and of every step.

    python benchmarks/bench_demo.py [--before COMMIT] [--rounds 3]

Both check-outs run `deploy_configs/fonts_cpu.yaml` in turns, each from nothing, in the environment that runs this. The
machine should be quiet. Writes benchmarks/results/demo.json: seconds and accuracies of each run, and the ratio now /
before of each round. Needs git and the commit's history; three to six minutes a round on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from commits import SLOWER, check_out
from device import facts, spread

from figkd.files import write_json

OUT = Path(__file__).parent / "results" / "demo.json"
CONFIG = "deploy_configs/fonts_cpu.yaml"
LEFT_BEHIND = (".figkd", "runs")


def run(folder: Path) -> dict[str, Any]:
    """Seconds of one run from nothing, in all and by step, and the accuracies in percent that it reports."""
    for name in LEFT_BEHIND:
        shutil.rmtree(folder / name, ignore_errors=True)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "figkd_pipeline", "run", CONFIG],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    found = json.loads((folder / "runs" / "fonts_cpu" / "result.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "steps": {step["step"]: step["seconds"] for step in found["steps"]},
        "teacher_top1": found["teacher"]["test"]["top1"],
        "student_top1": found["student"]["test"]["top1"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default=SLOWER, metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    with tempfile.TemporaryDirectory() as parent:
        folders = {"before": Path(parent) / "before", "now": Path(parent) / "now"}
        commits = {
            "before": check_out(arguments.before, folders["before"]),
            "now": check_out("HEAD", folders["now"]),
        }
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in folders}
        for _ in range(arguments.rounds):
            for name, folder in folders.items():
                runs[name].append(run(folder))
                print(f"{name}: {runs[name][-1]['seconds']:.1f} s", flush=True)
    ratios = [
        now["seconds"] / before["seconds"] for now, before in zip(runs["now"], runs["before"], strict=True)
    ]
    steps = {
        name: {step: statistics.median(run["steps"][step] for run in found) for step in found[0]["steps"]}
        for name, found in runs.items()
    }
    result: dict[str, Any] = {
        "what": "seconds of the demonstration, now against an earlier commit, in turns",
        "command": f"python benchmarks/bench_demo.py --before {arguments.before} --rounds {arguments.rounds}",
        "machine": facts("cpu"),
        "commits": commits,
        "ratio": spread(ratios),
        "seconds": {name: spread([run["seconds"] for run in found]) for name, found in runs.items()},
        "median_step_seconds": steps,
        "runs": runs,
    }
    write_json(arguments.out, result)
    ratio = result["ratio"]
    print(f"now / before: {ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f}, n = {ratio['n']})")


if __name__ == "__main__":
    main()
