"""Entropy calibration against the public tools, tensor by tensor, on trained depthwise networks.

    python benchmarks/study/fetch_photos.py data/cells
    python benchmarks/bench_entropy.py [--store DIR] [--seeds 3] [--cells data/cells] [--cases NAME ...]

Students are trained by the ordinary pipeline, one for each seed, on the labels alone (`distill.method: ce`; how a
network was trained does not matter here): two networks on `fonts`, whose images have a constant background, and as a
control one on photographs (solar cells), whose images have none. All ways choose their thresholds from the same
histograms of 256 images: ours; ONNX Runtime's `HistogramCollector` with its own defaults (128 bins, 128 levels: one
candidate, so that it is min-max in effect) and, for one student, with 2,048 bins; the formula of nvidia-modelopt's
`HistogramCalibrator` (with a candidate every 8 bins, as ours). modelopt is left out where it is not installed, and the
control where its photographs are not. Top-1 is of the test set, computed exactly (no INT8 kernels), a value for each
seed. Thresholds are of the first seed. Writes benchmarks/results/entropy.json; cases not measured now stay there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import precision
from export.cpu_layouts import CPU_LAYOUTS
from export.engines.onnxruntime import CPU, OnnxRuntimeEngine
from export.precision.calibration import Observed, Ranges
from figkd.data import open_split
from figkd.evaluate import topk_accuracy
from pipeline.config import load_config
from pipeline.core.files import read_json, write_json
from pipeline.core.store import Store
from pipeline.places import environment
from pipeline.run.conductor import run
from pipeline.run.console import ConsoleInterface
from pipeline.run.planning import Selection
from pipeline.stages.base import Work
from pipeline.stages.precision import calibration_batches, inputs_of

ROOT = Path(__file__).parents[1]
BASE = ROOT / "deploy_configs" / "fonts_cpu.yaml"
RESULT = ROOT / "benchmarks" / "results" / "entropy.json"
IMAGES = 256
CELLS = ROOT / "benchmarks" / "study" / "cells.yaml"


@dataclass(frozen=True)
class Case:
    """A student to train and quantise."""

    config: Path
    overrides: tuple[str, ...]
    wide: bool = False
    """Also ONNX Runtime's search over 2,048 bins: it copies and sums whole histograms for each candidate, so that a
    network with many tensors takes minutes."""


PLAIN = ("distill.method=ce", "teacher.epochs=1")
CASES: dict[str, Case] = {
    "figkd/dsconv_nano": Case(BASE, (*PLAIN, "student.model=figkd/dsconv_nano"), wide=True),
    "figkd/dsconv_nano, photographs": Case(
        CELLS,
        (*PLAIN, "student.model=figkd/dsconv_nano", "distill.epochs=15"),
    ),
    "figkd/mobilenetv2_half": Case(
        BASE,
        (*PLAIN, "student.model=figkd/mobilenetv2_half", "distill.epochs=3", "distill.lr=0.2"),
    ),
}

Threshold = Callable[[Any, float, float, float], float]
"""Of a histogram of 8,192 signed bins, its limit, and the extremes: the magnitude at which a tool clips."""


def onnxruntime_of(bins: int) -> Threshold:
    """ONNX Runtime's own search over a histogram of so many signed bins."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    def threshold(counts: Any, limit: float, low: float, high: float) -> float:
        edges = np.linspace(-limit, limit, bins + 1).astype(np.float32)
        collector = HistogramCollector("entropy", True, bins, 128, 99.999, "same")
        seen = (counts.reshape(bins, -1).sum(1), edges, np.float32(low), np.float32(high), np.float32(limit))
        left, right = collector.get_entropy_threshold(seen, 128)
        return max(-float(left), float(right))

    return threshold


def modelopt(counts: Any, limit: float, low: float, high: float) -> float:
    """modelopt's formula over 2,048 bins of magnitudes."""
    from modelopt.torch.quantization.calib import histogram  # type: ignore[import-not-found]

    half = len(counts) // 2
    magnitudes = (counts[half:] + counts[:half][::-1]).reshape(2048, -1).sum(1)
    return float(histogram._compute_amax_entropy(magnitudes, np.linspace(0, limit, 2049), 8, False, 8, 128))


def bounds_by(seen: Observed, threshold: Threshold) -> Ranges:
    """The extremes of each tensor, cut at a tool's threshold."""
    bounds = {}
    for name, (low, high) in seen.extremes.items():
        if name in seen.counts:
            cut = threshold(seen.counts[name], max(-low, high), low, high)
            low, high = max(low, -cut), min(high, cut)
        bounds[name] = (min(low, 0.0), max(high, 0.0))
    return Ranges(bounds, seen.images, "entropy", None)


def ways(wide: bool) -> dict[str, Callable[[Observed, bool], Ranges]]:
    """Name of a way to its ranges for a layout with signed or unsigned activations."""
    found: dict[str, Callable[[Observed, bool], Ranges]] = {
        method: lambda seen, signed, method=method: precision.ranges(seen, method=method, signed=signed)  # type: ignore[misc]
        for method in ("minmax", "percentile", "entropy")
    }
    tools: dict[str, Threshold] = {"onnxruntime entropy, 128 bins": onnxruntime_of(128)}
    if wide:
        tools["onnxruntime entropy, 2048 bins"] = onnxruntime_of(2048)
    if environment.version_of("nvidia-modelopt") != "none":
        tools["modelopt entropy"] = modelopt
    for name, tool in tools.items():
        found[name] = lambda seen, _signed, tool=tool: bounds_by(seen, tool)  # type: ignore[misc]
    return found


@dataclass(frozen=True)
class Measured:
    """One trained student: top-1 by way and layout, percent, and where each tensor is clipped by each way."""

    fp32: float
    n: int
    ways: dict[str, dict[str, float]]
    tensors: dict[str, dict[str, float]]


def measure(case: Case, overrides: Sequence[str], store: Path, seed: int, wide: bool) -> Measured:
    """Train a student and quantise it in every way."""
    config = load_config(case.config, [*case.overrides, *overrides, f"seed={seed}", f"store={store}"])
    made = run(config, Store(config.store.folder), ConsoleInterface(), Selection(until="export"))
    inputs = {step: artifact.path for step, artifact in made.artifacts.items()}
    arguments = {"seed": config.seed, "image_size": config.data.image_size, "input": config.export.input}
    work = Work(arguments, inputs, {}, Path(), Path(), lambda done, total, note: None)
    source, test = inputs["export"] / "student.onnx", open_split(inputs["data"], "test")
    seen = precision.observe_file(source, calibration_batches(work, IMAGES))
    graph, images = precision.load_fp32(source), inputs_of(work, test.images)

    def top1(made: Any) -> float:
        engine = OnnxRuntimeEngine(made.SerializeToString(), None, CPU, int8_kernels=False)
        return topk_accuracy(engine.infer(images), test.labels)

    accuracy: dict[str, dict[str, float]] = {}
    tensors: dict[str, dict[str, float]] = {}
    for name, way in ways(wide).items():
        print(f"seed {seed}: {name}", flush=True)
        signed = way(seen, True)
        unsigned = way(seen, False) if name in precision.METHODS else signed  # tools know magnitudes alone
        accuracy[name] = {
            "tensorrt": top1(precision.quantise_for_tensorrt(graph, signed)),
            "onnxruntime": top1(precision.quantise_for_onnxruntime(graph, unsigned, cpu=CPU_LAYOUTS["u8s8"])),
        }
        for tensor, share in shares(seen, signed).items():
            tensors.setdefault(tensor, {})[name] = share
    return Measured(top1(graph), len(test.labels), accuracy, tensors)


def summary(students: Sequence[Measured]) -> dict[str, Any]:
    """Of one network: top-1 of each seed by way and layout, and the first seed's thresholds."""
    first = students[0]
    return {
        "n": first.n,
        "fp32": [each.fp32 for each in students],
        "ways": {
            name: {
                layout: [each.ways[name][layout] for each in students if name in each.ways]
                for layout in layouts
            }
            for name, layouts in first.ways.items()
        },
        "tensors": first.tensors,
    }


def shares(seen: Observed, found: Ranges) -> Mapping[str, float]:
    """Where each tensor is clipped, as a share of its largest magnitude."""
    return {
        name: round(max(-low, high) / max(-seen.extremes[name][0], seen.extremes[name][1]), 4)
        for name, (low, high) in found.bounds.items()
        if name in seen.counts
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, default=Path(".figkd"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=Path, default=Path("data/cells"))
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    given = parser.parse_args()
    packages = environment.versions(("numpy", "onnx", "onnxruntime", "nvidia-modelopt"))
    cases: dict[str, Any] = read_json(RESULT)["cases"] if RESULT.exists() else {}
    for name in given.cases:
        case = CASES[name]
        overrides = [f"data.root={given.cells.resolve()}"] if case.config == CELLS else []
        if overrides and not given.cells.is_dir():
            print(f"{name} is left out: there is no {given.cells}; see benchmarks/study/fetch_photos.py")
            continue
        print(name, flush=True)
        seeds = range(given.seeds)
        students = [measure(case, overrides, given.store, seed, case.wide and not seed) for seed in seeds]
        about = {"packages": packages, "cpu": environment.cpu_model(), "seeds": given.seeds, "method": "ce"}
        cases[name] = about | summary(students)
        write_json(RESULT, {"calibration_images": IMAGES, "cases": cases})


if __name__ == "__main__":
    main()
