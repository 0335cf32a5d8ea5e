"""Does an untrained network take as long as the trained one? Scouting rests on it.

    python benchmarks/bench_scout.py [--store DIR] [--seconds 2] [--rounds 12]

Each student is trained by the ordinary pipeline on a small part of `fonts`, and made with random weights as `scout`
makes it. The ONNX Runtime engines of both, in each precision, take turns in rounds on one thread; the ratio is that of
their medians round by round, trained over untrained, with a 95 % interval. Writes benchmarks/results/scout.json.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from export.engines import BACKENDS
from export.measure import measure_rounds
from export.runtime.sampling import Limits
from export.stats import ratio, round_medians
from pipeline.config import load_config
from pipeline.config.schema import DeployConfig
from pipeline.core.files import write_json
from pipeline.core.store import Store
from pipeline.devices.known import KnownDevices
from pipeline.places import environment
from pipeline.places.alone import timing_alone
from pipeline.places.int8_layouts import int8_layouts
from pipeline.results.rows.scouted import Candidate
from pipeline.run.conductor import run
from pipeline.run.console import ConsoleInterface
from pipeline.run.planning import Selection, known_devices
from pipeline.search.jobs import recipes
from pipeline.search.material import sample_of
from pipeline.search.untrained import make
from pipeline.stages.precision import onnx_file

ROOT = Path(__file__).parents[1]
BASE = ROOT / "deploy_configs" / "fonts_cpu.yaml"
RESULT = ROOT / "benchmarks" / "results" / "scout.json"
STUDENTS = ("figkd/dsconv_nano", "figkd/resnet20", "figkd/mobilenetv2_half")
SHRUNK = (
    "data.options={train_per_class: 40, val_per_class: 10, test_per_class: 10}", "teacher.epochs=2",
    "teacher.allow_chance_level=true", "distill.epochs=3", "distill.lr=0.05", "distill.views.count=2",
    "precision.mixed=never", "precision.qad.when=never", "targets.rtx=null", "budgets=null",
    "precision.calibration_images=64",
)  # fmt: skip


def main() -> None:
    """Train, make, time, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--store", type=Path, default=Path(".figkd"))
    arguments.add_argument("--seconds", type=float, default=2.0, help="sampling time of an engine")
    arguments.add_argument("--rounds", type=int, default=12)
    given = arguments.parse_args()
    found = {name: _student(name, given.store, given.seconds, given.rounds) for name in STUDENTS}
    machine = {"cpu": environment.cpu_model(), "cores": environment.cores(), "threads": 1}
    packages = environment.versions(("onnxruntime", "torch", "numpy"))
    write_json(RESULT, {"machine": machine, "packages": packages, "trained_over_untrained": found})


def _student(name: str, store_folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    config = load_config(BASE, (*SHRUNK, f"student.model={name}", f"store={store_folder}"))
    store, ui = Store(config.store.folder), ConsoleInterface()
    known = known_devices(store)
    trained = run(config, store, ui, Selection(until="precision")).artifacts["precision"].path
    ui.close()
    layout = int8_layouts(config, known)["cpu"]
    files = {precision: onnx_file(precision, layout) for precision in ("fp32", "fp16", "int8")}
    with tempfile.TemporaryDirectory() as folder:
        untrained = _untrained(config, name, store, known, Path(folder))
        return {
            precision: _ratio(trained / file, untrained / file, seconds, rounds)
            for precision, file in files.items()
        }


def _untrained(config: DeployConfig, name: str, store: Store, known: KnownDevices, folder: Path) -> Path:
    ui = ConsoleInterface(-1)
    sample = sample_of(config, store, ui, known)
    candidate = Candidate(model=name, image_size=config.data.image_size)
    classes, layouts = len(sample.classes), int8_layouts(config, known)
    found = recipes(config, candidate, classes, layouts, known, store, real=True)
    return make(found.making, sample.material(), folder).inputs["precision"]


def _ratio(trained: Path, untrained: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Medians of both in ms, and trained over untrained round by round."""
    import numpy as np

    engines = {
        kind: BACKENDS["onnxruntime"].load(path, threads=1)
        for kind, path in (("trained", trained), ("untrained", untrained))
    }
    shape = engines["trained"].input_shape
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    with timing_alone():
        measured = measure_rounds(
            [(kind, partial(engine.time, image)) for kind, engine in engines.items()], 
            Limits(0.2, 1000, seconds, 4 * seconds), rounds=rounds, max_load=0.15,
            progress=lambda done, total, note: None,
        ).samples()  # fmt: skip
    medians = {kind: round_medians(each.latency, each.rounds) for kind, each in measured.items()}
    for engine in engines.values():
        engine.close()
    return {
        "median_ms": {kind: float(np.median(each.latency)) for kind, each in measured.items()},
        "n": {kind: len(each.latency) for kind, each in measured.items()},
        "ratio": ratio(medians["trained"], medians["untrained"]),
    }


if __name__ == "__main__":
    main()
