"""A search over networks, image sizes and precisions for two targets: the front, and a run of one of its points.

    python benchmarks/search_networks.py [--folder FOLDER]

Eight trials on a part of the demonstration's fonts, for this machine and for a device (a real sshd on the loopback):
one of our networks, and three widths of one that a user would bring. The front goes through all stages, and a run of a
point's config must have nothing to do. With `--folder`, the page stays. Writes benchmarks/results/search_networks.json.
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

from search_killed import edge, ended

from pipeline.core.files import write_json
from pipeline.places.environment import cores, cpu_model, versions
from tests.pipeline.conftest import FONTS, command, environment
from tests.pipeline.devices.sshd import Sshd, running_sshd

RESULT = Path(__file__).parent / "results" / "search_networks.json"
BASE = """\
data: {options: {train_per_class: 80, val_per_class: 20, test_per_class: 20}}
teacher: {epochs: 9}
distill: {epochs: 12, batch_size: 64, lr: 0.2, views: {count: 2}}
precision: {modes: [fp32, int8], calibration_images: 64, mixed: never, qad: {when: never}}
budgets: null
benchmark: {boundaries: [engine], min_samples: 200, min_seconds: 0.2, max_seconds: 2, rounds: 6, warmup_ms: 20}
scout: {min_samples: 200, min_seconds: 0.2, max_seconds: 2, rounds: 6, warmup_ms: 20}
"""
SEARCH = """\
base: base.yaml
name: networks
space:
  student.model: [figkd/dsconv_nano, "nets:width_8", "nets:width_16", "nets:width_32"]
  data.image_size: [24, 32]
objectives: {val_top1: max, latency_p50_ms@edge: min, engine_mb@cpu: min}
sampler: grid
halving: {min_epochs: 6, factor: 2}
"""
NETS = """\
from torch import nn


def block(inside, outside, stride):
    conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())


def make(width, num_classes):
    layers = block(3, width, 1), block(width, 2 * width, 2), block(2 * width, 4 * width, 2)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes))


def width_8(num_classes):
    return make(8, num_classes)


def width_16(num_classes):
    return make(16, num_classes)


def width_32(num_classes):
    return make(32, num_classes)
"""
NAME = "networks"


def main() -> None:
    """Search, run the config of point 1, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="a folder for the search; what is known there is not made again"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="figkd-networks-") as name:
        place = given.folder.resolve() if given.folder else Path(name)
        (place / "sshd").mkdir(parents=True, exist_ok=True)
        with running_sshd(place / "sshd") as server:
            _prepare(place, server)
            sets = [word for each in ("store=store", "output=runs") for word in ("--set", each)]
            words = ("search", "search.yaml", *sets, "--write-config", "chosen.yaml", "--point", "1")
            seconds = ended(command(*words), place)
            result = _result(place) | {"chosen": _chosen(place), "seconds": seconds}
    write_json(RESULT, result)
    chosen = result["chosen"]
    sys.exit(0 if chosen["exit_code"] == 0 and chosen["cached"] == chosen["steps"] else 1)


def _result(folder: Path) -> dict[str, Any]:
    document = json.loads((folder / "runs" / NAME / "search.json").read_text(encoding="utf-8"))
    trials = {trial["number"]: trial for trial in document["trials"]}
    front = [
        {**point, "settings": trials[point["trial"]]["settings"]}
        for point in sorted(document["points"], key=lambda point: point["front"] or 0)
        if point["front"]
    ]
    states = [trial["state"] for trial in trials.values()]
    return {
        "machine": {"cpu": cpu_model(), "cores": cores()}, "packages": versions(("torch", "onnxruntime")),
        "trials": len(states), "states": {state: states.count(state) for state in sorted(set(states))},
        "points": len(document["points"]), "validation_images": document["validation_images"],
        "effort": document["effort"], "front": front,
    }  # fmt: skip


def _prepare(folder: Path, server: Sshd) -> None:
    targets = f"targets: {{rtx: null, edge: {edge(server)}}}\n"
    (folder / "base.yaml").write_text(f"extends: {FONTS}\nname: base\n{BASE}{targets}", encoding="utf-8")
    (folder / "nets.py").write_text(NETS, encoding="utf-8")
    (folder / "search.yaml").write_text(SEARCH, encoding="utf-8")


def _chosen(folder: Path) -> dict[str, Any]:
    """A run of the config that was written: how it ends, and the steps that it had to carry out."""
    planned = subprocess.run(
        command("plan", "chosen.yaml", "--json"),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    done = subprocess.run(
        command("run", "chosen.yaml"), cwd=folder, env=environment(), capture_output=True, text=True
    )
    states = [step["state"] for step in json.loads(planned.stdout)]
    return {"exit_code": done.returncode, "steps": len(states), "cached": states.count("cached")}


if __name__ == "__main__":
    main()
