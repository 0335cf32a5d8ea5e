"""What quantisation-aware distillation wins back of what INT8 loses, on `fonts`, over seeds of the student.

    python benchmarks/bench_qad.py [--students MODEL ...] [--seeds 5] [--store DIR]

Seeds that the result file has already are not run again. Writes benchmarks/results/qad.json and its table in
docs/precision.md.

Runs `figkd-pipeline run deploy_configs/fonts_cpu.yaml --until qad` for each student, seed and kind of weight scale,
with the whole network in INT8 (`precision.mixed: never`), in both layouts. Beside it stand, per seed:

- mixed precision instead: PTQ with `precision.mixed: auto`, and the share of the work that it takes out of INT8;
- a control: the same epochs, views, method and learning rate on the FP32 graph, quantised afterwards. What it gains is
  gained by training longer, not by training with the quantisation in view.

Accuracies are top-1 in percent of the test set, in ONNX Runtime; drops are against the torch student before any
fine-tuning, in percentage points. Nothing is chosen on the test set.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.load import load_config
from pipeline.core.files import read_json, write_json, write_text
from pipeline.docs import between
from pipeline.places import environment
from pipeline.places.int8_layouts import TENSORRT, layout_here
from pipeline.stages.precision import onnx_file

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "deploy_configs" / "fonts_cpu.yaml"
OUT = Path(__file__).parent / "results" / "qad.json"
PAGE = ROOT / "docs" / "precision.md"
CPU_FILE = onnx_file("int8", layout_here())
LAYOUTS = {"int8.onnx": "tensorrt", CPU_FILE: "onnxruntime"}
WEIGHTS = ("per_channel", "per_tensor")
# The demonstration's learning rate suits its tiny student only.
STUDENTS: dict[str, list[str]] = {
    "figkd/dsconv_nano": [],
    "figkd/resnet_tiny": ["distill.lr=0.1"],
    "figkd/mobilenetv2_half": ["distill.lr=0.1"],
}


def run(overrides: list[str], until: str) -> dict[str, Path]:
    """The artifacts of a run, by step."""
    changes = [argument for override in overrides for argument in ("--set", override)]
    command = [sys.executable, "-m", "pipeline.cli", "run", str(CONFIG), "--until", until, "--json", *changes]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {step: Path(path) for step, path in json.loads(done.stdout).items()}


def control(overrides: list[str], artifacts: dict[str, Path], weights: str) -> dict[str, float]:
    """Test top-1 of each layout when the FP32 graph is fine-tuned alike and quantised afterwards."""
    from export import precision
    from export.graph import save_model
    from figkd.data import open_split
    from figkd.evaluate import topk_accuracy
    from figkd.progress import no_progress
    from pipeline.stages import qad
    from pipeline.stages.base import Work
    from pipeline.stages.precision import calibration_batches, inputs_of, onnx_engine

    config = load_config(CONFIG, overrides)
    test = open_split(artifacts["data"], "test")
    makers = {"int8.onnx": precision.to_int8_tensorrt, CPU_FILE: precision.to_int8_onnxruntime}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        layouts = {"rtx": TENSORRT, "cpu": layout_here()}
        given = qad.STAGE.layout_arguments(config, "", layouts)  # type: ignore[misc]
        work = Work(given, artifacts, {}, folder, folder, no_progress)
        graph, _ = qad.fine_tune(work, artifacts["precision"] / "fp32.onnx")
        save_model(graph.to_onnx(), folder / "fp32.onnx")
        images = calibration_batches(work, config.precision.calibration_images)
        seen = precision.observe_file(folder / "fp32.onnx", images, histograms=False)
        found = {}
        for name in ("fp32.onnx", *makers):
            if name in makers:
                makers[name](folder / "fp32.onnx", folder / name, seen, weights=weights)  # type: ignore[operator]
            engine = onnx_engine(folder / name)
            found[name] = topk_accuracy(engine.infer(inputs_of(work, test.images)), test.labels)
            engine.close()
    return found


def one_seed(model: str, seed: int, weights: str, common: list[str]) -> dict[str, Any]:
    """Everything about one student, seed and kind of weight scale."""
    base = [
        f"student.model={model}",
        *STUDENTS[model],
        f"distill.seed={seed}",
        f"precision.weights={weights}",
    ]
    base += common
    full = [*base, "precision.mixed=never", "precision.qad.when=always"]
    made = run(full, "qad")
    mixed = run([*base, "precision.mixed=auto", "precision.int8_max_drop=1.0"], "precision")
    student = read_json(made["distill"] / "metrics.json")
    before = read_json(made["precision"] / "accuracy.json")
    after = read_json(made["qad"] / "accuracy.json")
    facts = read_json(made["qad"] / "qad.json")
    mixed_accuracy = read_json(mixed["precision"] / "accuracy.json")
    returned = read_json(mixed["precision"] / "precision.json")
    controls = control(full, made, weights)
    row: dict[str, Any] = {
        "seed": seed,
        "student": student["test"]["top1"],
        "control_fp32": controls["fp32.onnx"],
    }
    for name, layout in LAYOUTS.items():
        groups = (returned[name].get("mixed") or {}).get("returned") or []
        row[layout] = {
            "ptq": before[name]["top1"],
            # A file that validation images found no better is not kept: PTQ's is shipped.
            "qad": after.get(name, before[name])["top1"],
            "control": controls[name],
            "mixed": mixed_accuracy[name]["top1"],
            "mixed_out_of_int8_percent": sum(group["macs_percent"] for group in groups),
            "state": facts[name]["state"],
            "val": {key: facts[name][key] for key in ("student_val", "val_before", "val_after")},
        }
    return row


def summary(rows: list[dict[str, Any]], layout: str) -> dict[str, Any]:
    """Mean and standard deviation over seeds of the drops, and the share of PTQ's drop that QAD wins back."""
    found: dict[str, Any] = {"n": len(rows)}
    student = np.array([row["student"] for row in rows])
    for kind in ("ptq", "mixed", "control", "qad"):
        drops = student - np.array([row[layout][kind] for row in rows])
        found[f"drop_{kind}"] = {"mean": float(drops.mean()), "std": _std(drops)}
    lost = found["drop_ptq"]["mean"]
    found["recovered_percent"] = 100 * (1 - found["drop_qad"]["mean"] / lost) if lost > 1 else None
    return found


def table(result: dict[str, Any]) -> str:
    """Every seed as Markdown: the points of top-1 that are lost against the torch student."""
    lines = [
        "| weights' scale | seed | layout | calibrated | trained longer | fine-tuned (QAD) | mixed (out of INT8) |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for found in result["cases"].values():
        for row in found["seeds"]:
            for layout in LAYOUTS.values():
                part = row[layout]
                drops = [f"{row['student'] - part[kind]:.2f}" for kind in ("ptq", "control", "qad", "mixed")]
                drops[-1] += f" ({part['mixed_out_of_int8_percent']:.0f} %)"
                scale = found["weights"].replace("_", " ")
                lines.append(f"| {scale} | {row['seed']} | {layout} | {' | '.join(drops)} |")
    return "\n".join(lines)


def _std(values: np.ndarray[Any, Any]) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=["figkd/dsconv_nano"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS)
    parser.add_argument("--store", type=Path, default=ROOT / ".figkd")
    parser.add_argument("--set", action="append", default=[], help="further changes of the config")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    common = [f"store={arguments.store.resolve()}", *arguments.set]
    result = read_json(arguments.out) if arguments.out.is_file() else {"cases": {}}
    qad = load_config(CONFIG, common).precision.qad
    for model in arguments.students:
        for weights in arguments.weights:
            key = f"{model}|{weights}"
            rows = result["cases"].get(key, {}).get("seeds", [])
            for seed in sorted(set(range(arguments.seeds)) - {row["seed"] for row in rows}):
                rows.append(one_seed(model, seed, weights, common))
                print(json.dumps(rows[-1]), flush=True)
                result["cases"][key] = case(model, weights, qad.epochs, qad.lr, rows)
                result |= {
                    "what": __doc__, "config": CONFIG.name, "cpu": environment.cpu_model(),
                    "versions": environment.versions(("torch", "onnx", "onnxruntime", "figkd-pipeline")),
                }  # fmt: skip
                write_json(arguments.out, result)
    if arguments.out == OUT:
        write_text(PAGE, between(PAGE.read_text(encoding="utf-8"), "qad", table(result)))


def case(model: str, weights: str, epochs: int, lr: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One student and kind of weight scale: what was done, every seed, and the summary of each layout."""
    facts = {"student": model, "weights": weights, "epochs": epochs, "lr": lr, "seeds": rows}
    return facts | {layout: summary(rows, layout) for layout in LAYOUTS.values()}


if __name__ == "__main__":
    main()
