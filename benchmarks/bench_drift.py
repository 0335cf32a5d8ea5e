"""How often does the alarm of `ship status` see images that differ, and how often does it cry for nothing?

    python benchmarks/bench_drift.py [--windows 1000] [--bundle FOLDER]

The demonstration's student is trained on 16 of the 21 faces, in minutes, and packed as a bundle, whose model answers. A
window is what a device counts: answers to images that were never seen, drawn from a pool of freshly rendered ones. Its
reference is 1,000 images, drawn anew for each window, as for each bundle. Compared are windows of the same
kind of images, of blurred ones, and of windows in which some images show one of the five faces that were left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import get_data_path
from PIL import Image, ImageFilter

from export.runtime.bundle import UNSIGNED, load
from export.runtime.bundle.model import Model
from export.runtime.counts import OutputCounts, counts_of
from figkd.data.crop import centre_crop
from figkd.data.fonts import FACES, render
from figkd.data.store import SplitName
from pipeline.core.files import write_json
from pipeline.places import environment
from pipeline.shipping.drift import ALARM, drift

OUT = Path(__file__).parent / "results" / "drift.json"
CONFIG = Path(__file__).parents[1] / "deploy_configs" / "fonts_cpu.yaml"
LEFT_OUT = FACES[3::4]
FONTS = Path(get_data_path()) / "fonts" / "ttf"
REFERENCE, SIZES = 1000, (300, 1000, 5000)
BLURS = (0.25, 0.5, 1.0)
SHARES = (0.05, 0.1, 0.25, 1.0)
SIDE, STORED = 32, 36
FIRST = 10_000  # of the images' numbers: none of them was in the run
Logits = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


def train(folder: Path) -> Path:
    """The bundle of a run of the demonstration without the faces that are left out."""
    faces = folder / "faces"
    faces.mkdir(parents=True)
    for name in FACES:
        if name not in LEFT_OUT:
            (faces / f"{name}.ttf").symlink_to(FONTS / f"{name}.ttf")
    keys = {
        "data.root": faces, "targets.rtx": "null", "precision.modes": "[fp32]", "benchmark.min_seconds": 0.1,
        "bundle.allow_unshipped": "true", "store": folder / "store", "output": folder / "runs",
    }  # fmt: skip
    words = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "pipeline.cli", "run", str(CONFIG), *words]
    done = subprocess.run(command, cwd=CONFIG.parents[1])
    if done.returncode not in (0, 3):  # 3: a budget is missed, which changes nothing here
        sys.exit(f"the run failed with exit code {done.returncode}")
    (bundle,) = (folder / "runs/fonts_cpu/bundles").iterdir()
    return bundle


def rendered(faces: Sequence[str], split: SplitName, count: int) -> Pixels:
    """So many new images of each face, [faces x count, STORED, STORED, 3]."""
    return np.stack(
        [
            render(FONTS / f"{face}.ttf", split, FACES.index(face), FIRST + number, SIDE, STORED, 0)
            for face in faces
            for number in range(count)
        ]
    )


def blurred(images: Pixels, sigma: float) -> Pixels:
    """Every image out of focus, by `sigma` pixels."""
    blur = ImageFilter.GaussianBlur(sigma)
    return np.stack([np.asarray(Image.fromarray(image).filter(blur)) for image in images])


def answers(model: Model, images: Pixels) -> Logits:
    """Logits of the centres of images."""
    views = centre_crop(images, SIDE)
    parts = [model.logits(list(views[at : at + 256])) for at in range(0, len(views), 256)]
    return np.concatenate(parts)


def pair(
    chance: np.random.Generator, size: int, clean: Logits, other: Logits, share: float
) -> tuple[OutputCounts, OutputCounts]:
    """Counts of a reference and of a window, of which a share is of the other pool; no image is in both."""
    order = chance.permutation(len(clean))
    of_other = round(size * share)
    of_clean = clean[order[REFERENCE : REFERENCE + size - of_other]]
    strange = other[chance.choice(len(other), of_other, replace=False)]
    return counts_of(clean[order[:REFERENCE]]), counts_of(np.concatenate([of_clean, strange]))


def rate(
    chance: np.random.Generator, windows: int, size: int, clean: Logits, other: Logits, share: float
) -> dict[str, float]:
    """How many of the windows raise the alarm, with the interval that n gives it, and how much moved."""
    found = [drift(*pair(chance, size, clean, other, share)) for _ in range(windows)]
    alarms = sum(one.is_alarm for one in found)
    low, high = wilson(alarms, windows)
    moved = [
        100 * float(np.median([getattr(one, name).moved for one in found]))  # type: ignore[attr-defined]
        for name in ("confidence", "classes")
    ]
    return {
        "images": size, "windows": windows, "alarms": alarms, "rate": alarms / windows, "low": low, "high": high,
        "moved_confidence": round(moved[0], 2), "moved_classes": round(moved[1], 2),
    }  # fmt: skip


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of 95 % of a share (Wilson's score)."""
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return round(middle - half, 4), round(middle + half, 4)


def study(bundle: Path, windows: int) -> list[dict[str, Any]]:
    """Rows: a kind of windows, top-1 where there is one, and the rates."""
    known_faces = [face for face in FACES if face not in LEFT_OUT]
    chance = np.random.default_rng(16)
    with load(bundle, UNSIGNED) as model:
        places = [model.classes.index(face) for face in known_faces]
        labels = np.repeat(places, 1000)
        clean = answers(model, rendered(known_faces, "test", 1000))
        more = rendered(known_faces, "val", 1000)
        pools = {sigma: answers(model, blurred(more, sigma)) for sigma in BLURS}
        new = answers(model, rendered(LEFT_OUT, "test", 1000))

    def top1(logits: Logits) -> float:
        return round(100 * float((logits.argmax(1) == labels).mean()), 2)

    kinds: list[tuple[str, float | None, Logits, float]] = [
        ("the same kind of images", top1(clean), new, 0.0)
    ]
    kinds += [(f"blurred by {sigma:g} pixels", top1(pool), pool, 1.0) for sigma, pool in pools.items()]
    kinds += [(f"{100 * share:g} % show a face that was left out", None, new, share) for share in SHARES]
    return [
        {
            "windows": name,
            "top1": right,
            "rates": [rate(chance, windows, size, clean, other, share) for size in SIZES],
        }
        for name, right, other, share in kinds
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=1000, help="of each kind and size")
    parser.add_argument("--bundle", type=Path, help="of an earlier run of this program")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="figkd-drift-") as folder:
        bundle = arguments.bundle or train(Path(folder) / "run")
        rows = study(bundle, arguments.windows)
    write_json(
        arguments.out,
        {
            "faces_left_out": list(LEFT_OUT), "reference": REFERENCE, "stated_false_alarms": ALARM,
            "rows": rows, "versions": environment.versions(("numpy", "scipy", "onnxruntime", "pillow")),
        },
    )  # fmt: skip
    for row in rows:
        rates = ", ".join(f"{one['images']}: {100 * one['rate']:.1f} %" for one in row["rates"])
        print(f"{row['windows']:<40} top-1 {row['top1']}  alarms {rates}")


if __name__ == "__main__":
    main()
