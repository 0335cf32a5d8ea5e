"""What INT8 costs in accuracy, and what keeps it: three students on `fonts`, every way of making the file.

    python benchmarks/bench_precision.py [--students dsconv_nano resnet8x4 mobilenet] [--seeds 1 2 3] [--variants ...]

Every student is trained by the ordinary pipeline, and every way (a `Variant`) is a handful of config keys on top of
the same config, run until its stage: data, teacher, logits, student and ONNX file are made once and shared through
the store, and a benchmark that was stopped goes on. Nothing is measured here that a user's run would not measure.

Numbers are top-1 of the test set (2,100 images) in ONNX Runtime. A drop is against the FP32 file of the same student,
so that students' seeds cancel: mean, standard deviation and every single value are kept. Groups leave INT8 by what
they cost on validation images; the test set has no say in it. Writes benchmarks/results/precision_fonts.json, and
its table into docs/precision.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import load_config
from pipeline.core.files import read_json, write_json, write_text
from pipeline.core.store import Store
from pipeline.docs import between
from pipeline.places import environment
from pipeline.places.int8_layouts import layout_here
from pipeline.run.conductor import run
from pipeline.run.console import ConsoleInterface
from pipeline.run.planning import Selection
from pipeline.stages.engines import onnx_accuracy
from pipeline.stages.precision import onnx_file

ROOT = Path(__file__).parents[1]
BASE = ROOT / "deploy_configs" / "fonts_cpu.yaml"
RESULT = ROOT / "benchmarks" / "results" / "precision_fonts.json"
PAGE = ROOT / "docs" / "precision.md"
LAYOUTS = {"tensorrt": "int8.onnx", "onnxruntime": onnx_file("int8", layout_here())}
MAX_DROP = 0.5

COMMON = (
    "teacher.epochs=4",
    "export.dynamic_batch=true",  # the same file, scored in batches
    "precision.calibration_images=512",
    "precision.qad.when=never",
)
STUDENTS: dict[str, tuple[str, ...]] = {
    "dsconv_nano": ("student.model=figkd/dsconv_nano",),
    "resnet20": ("student.model=figkd/resnet20", "distill.lr=0.1", "distill.epochs=2"),
    "resnet8x4": ("student.model=figkd/resnet8x4", "distill.lr=0.1", "distill.epochs=2"),
    "mobilenet": (
        "student.model=timm/mobilenetv3_small_050",
        "distill.optimizer=adamw",
        "distill.lr=0.005",
        "distill.epochs=6",
    ),
}
"""Student to the config keys that make it; all learn from the same teacher."""


@dataclass(frozen=True)
class Variant:
    """One way of making the INT8 files: config keys, and the last stage that is needed."""

    keys: tuple[str, ...]
    stage: str = "precision"


_PLAIN = ("precision.mixed=never",)
_MIXED = (f"precision.int8_max_drop={MAX_DROP}",)
_TRAINED = ("precision.qad.when=always",)
VARIANTS: dict[str, Variant] = {
    "minmax": Variant(_PLAIN),
    "entropy": Variant((*_PLAIN, "precision.calibration_method=entropy")),
    "percentile": Variant((*_PLAIN, "precision.calibration_method=percentile", "precision.percentile=99.99")),
    "per_tensor": Variant((*_PLAIN, "precision.weights=per_tensor")),
    "mixed": Variant(_MIXED),
    "per_tensor_mixed": Variant((*_MIXED, "precision.weights=per_tensor")),
    "qad": Variant((*_PLAIN, *_TRAINED), "qad"),
    "per_tensor_qad": Variant((*_PLAIN, *_TRAINED, "precision.weights=per_tensor"), "qad"),
}
"""Post-training ways, and those that train the quantised student further (`qad`); benchmarks/bench_qad.py says how much
of what these gain comes from training longer."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for and write the result after each student."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--store", type=Path, default=ROOT / "runs" / "precision")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--add", action="store_true", help="Keep the rows of other runs that --out holds.")
    given = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    if given.add and given.out.is_file():
        again = {(s, n, v) for s in given.students for n in given.seeds for v in given.variants}
        before = read_json(given.out)["rows"]
        rows = [r for r in before if (r["student"], r["seed"], r["variant"]) not in again]
    for seed in given.seeds:
        for student in given.students:
            for variant in given.variants:
                rows += _run(student, seed, variant, given.store)
            write_json(given.out, _result(rows))
    print(table(read_json(given.out)))
    if given.out == RESULT:
        write_text(PAGE, between(PAGE.read_text(encoding="utf-8"), "measured", table(read_json(RESULT))))


def _run(student: str, seed: int, variant: str, store: Path) -> Iterator[dict[str, Any]]:
    chosen = VARIANTS[variant]
    keys = (*COMMON, *STUDENTS[student], f"distill.seed={seed}", *chosen.keys)
    config = load_config(BASE, keys)
    outcome = run(config, Store(store), ConsoleInterface(), Selection(until=chosen.stage))
    folders = {step: artifact.path for step, artifact in outcome.artifacts.items()}
    for reading in _readings(folders):
        yield {"student": student, "seed": seed, "variant": variant, **reading}


def _readings(folders: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """What the stages say of the INT8 file of each layout, with FP32 and FP16 beside it."""
    accuracy = read_json(folders["precision"] / "accuracy.json")
    facts = read_json(folders["precision"] / "precision.json")
    if "qad" in folders:
        accuracy = onnx_accuracy(folders)
    for layout, name in LAYOUTS.items():
        mixed = facts[name]["mixed"]
        yield {
            "layout": layout,
            "n": accuracy[name]["n"],
            "fp32": accuracy["fp32.onnx"]["top1"],
            "fp16": accuracy["fp16.onnx"]["top1"],
            "int8": accuracy[name]["top1"],
            "bytes": facts[name]["bytes"],
            "int8_macs_percent": facts[name]["int8_macs_percent"],
            "groups_out": len(mixed["returned"]) if mixed else 0,
            "budget_met": mixed["met"] if mixed else None,
        }


def _result(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "what": "top-1 of the fonts test set in ONNX Runtime, percent; drops against FP32, percentage points",
        "command": "python benchmarks/bench_precision.py",
        "max_drop_of_mixed": MAX_DROP,
        "machine": {"cpu": environment.cpu_model(), "cores": environment.cores()},
        "versions": environment.versions(("torch", "timm", "onnx", "onnxruntime", "figkd-pipeline")),
        "keys": {
            "common": COMMON,
            "students": STUDENTS,
            "variants": {name: variant.keys for name, variant in VARIANTS.items()},
        },
        "summary": list(summary(rows)),
        "rows": list(rows),
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation over seeds for each student, layout and variant."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["student"], row["layout"], row["variant"]), []).append(row)
    for (student, layout, variant), members in groups.items():
        drops = [row["fp32"] - row["int8"] for row in members]
        yield {
            "student": student,
            "layout": layout,
            "variant": variant,
            "seeds": len(members),
            "n": members[0]["n"],
            **{key: statistics.mean(row[key] for row in members) for key in ("fp32", "fp16", "int8")},
            "drop": statistics.mean(drops),
            "drop_std": statistics.stdev(drops) if len(drops) > 1 else None,
            "int8_macs_percent": statistics.mean(row["int8_macs_percent"] for row in members),
        }


def table(result: Mapping[str, Any]) -> str:
    """The summary as Markdown: one row a variant, one column a student and layout; drops in points."""
    found = {(r["student"], r["layout"], r["variant"]): r for r in result["summary"]}
    columns = list(dict.fromkeys((student, layout) for student, layout, _ in found))
    variants = list(dict.fromkeys(variant for *_, variant in found))
    lines = ["| | " + " | ".join(f"{student}, {layout}" for student, layout in columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))

    def line(name: str, cells: Sequence[str]) -> str:
        return f"| {name} | " + " | ".join(cells) + " |"

    first = [next(r for key, r in found.items() if key[:2] == column) for column in columns]
    lines.append(line("FP32, top-1 %", [f"{r['fp32']:.2f}" for r in first]))
    lines.append(line("FP16", [f"{r['fp16'] - r['fp32']:+.2f}" for r in first]))
    for variant in variants:
        cells = []
        for column in columns:
            row = found.get((*column, variant))
            if row is None:
                cells.append("–")
                continue
            spread = "" if row["drop_std"] is None else f" ± {row['drop_std']:.2f}"
            share = row["int8_macs_percent"]
            cells.append(
                f"{-row['drop']:+.2f}{spread}" + (f" ({share:.0f} % INT8)" if "mixed" in variant else "")
            )
        lines.append(line(f"INT8 {variant}", cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
