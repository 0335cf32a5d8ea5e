"""What scouting and halving save of a search's training: the same 12 trials with both, and all of them in full.

    python benchmarks/search_saved.py

Three networks at four learning rates on a small part of `fonts`; the budget on latency is one that the largest misses
untrained. Each search has a store of its own. Epochs are counted; seconds are what the trials' files say: training, and
making and scoring the files of those that are finished. Writes benchmarks/results/search_saved.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

from pipeline.core.files import write_json
from pipeline.places.environment import cores, cpu_model, versions
from tests.pipeline.conftest import FONTS, command, environment

RESULT = Path(__file__).parent / "results" / "search_saved.json"
BASE = f"""\
extends: {FONTS}
name: base
data: {{options: {{train_per_class: 20, val_per_class: 10, test_per_class: 4}}}}
teacher: {{model: figkd/dsconv_nano, epochs: 1, allow_chance_level: true}}
distill: {{epochs: 6, views: {{count: 2}}}}
precision: {{modes: [fp32], mixed: never, qad: {{when: never}}}}
targets: {{rtx: null}}
budgets: {{top1: null, latency_p99_ms: null, engine_mb: null, latency_p50_ms: {{max: 0.4}}}}
"""
SEARCH = """\
base: base.yaml
name: saved
space:
  student.model: [figkd/dsconv_nano, figkd/mobilenetv2_half, figkd/resnet20]
  distill.lr: [0.05, 0.1, 0.3, 0.6]
objectives: {val_top1: max, latency_p50_ms@cpu: min}
sampler: grid
trials: 12
confirm: false
"""
HALVING = "halving: {min_epochs: 2, factor: 3}\n"
SHORT = "scout={min_samples: 200, min_seconds: 0.2, max_seconds: 2, rounds: 3, warmup_ms: 20}"
BOTH, EVERYTHING = "scouting and halving", "everything"


def main() -> None:
    """Search twice, write."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory(prefix="figkd-saved-") as folder:
        both = _searched(Path(folder) / "both", SEARCH + HALVING)
        everything = _searched(Path(folder) / "everything", SEARCH, "--set", "budgets=null")
    excluded = sum(trial["state"] == "excluded" for trial in both["trials"])
    full = everything["epochs"] // len(everything["trials"])
    result = {
        "machine": {"cpu": cpu_model(), "cores": cores()}, "packages": versions(("torch", "onnxruntime")),
        "excluded": excluded, "epochs": {
            EVERYTHING: everything["epochs"], "scouting alone": everything["epochs"] - excluded * full,
            BOTH: both["epochs"],
        },
        "seconds": {EVERYTHING: everything["seconds"], BOTH: both["seconds"]},
        "of_the_excluded_s": sum(
            trial["seconds"] for trial, other in zip(everything["trials"], both["trials"], strict=True)
            if other["state"] == "excluded"
        ),
        "trials": {EVERYTHING: everything["trials"], BOTH: both["trials"]},
    }  # fmt: skip
    write_json(RESULT, result)
    print(json.dumps({key: result[key] for key in ("excluded", "epochs", "seconds", "of_the_excluded_s")}))


def _searched(folder: Path, text: str, *arguments: str) -> dict[str, Any]:
    folder.mkdir()
    (folder / "base.yaml").write_text(BASE, encoding="utf-8")
    (folder / "search.yaml").write_text(text, encoding="utf-8")
    words = [word for each in ("store=store", "output=runs", SHORT) for word in ("--set", each)]
    done = subprocess.run(
        command("search", "search.yaml", *words, *arguments), cwd=folder, env=environment(), capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}\n{done.stderr}")
    document = json.loads((folder / "runs" / "saved" / "search.json").read_text(encoding="utf-8"))
    keys = ("number", "settings", "state", "epochs", "seconds")
    effort = document["effort"]
    trials = [{key: trial[key] for key in keys} for trial in document["trials"]]
    print(f"{folder.name}: {effort['epochs']} epochs, {effort['training_seconds']:.0f} s", flush=True)
    return {"trials": trials, "epochs": effort["epochs"], "seconds": effort["training_seconds"]}


if __name__ == "__main__":
    main()
