"""Photographs to squares: our decoding against the usual loops, and against what libjpeg-turbo cannot do without.

    python benchmarks/bench_decode.py [--files 40 300] [--rounds 7] [--out benchmarks/results/decode.json]

Files of 12 megapixels and of 500 px are made from scikit-learn's two photographs: enlarged, with their own fine detail
and sensor noise laid over, saved as a camera does (quality 92, 4:2:0). Every loop turns each file into one square of
`--side` pixels, one thread, all loops taking turns round by round. A figure is the CPU time of this process, which
other load on the machine disturbs little; a ratio is the median over rounds of one round's ratio, with quartiles and n.

`ours` is `figkd.data.decode.decode_square`: as the `data` stage, a bundle and the C++ runtime decode, with libjpeg's
smallest scale that keeps twice the side, then bicubic. `pillow` decodes all pixels. `torchvision` is `decode_jpeg` with
an antialiased bicubic resize of tensors. `simplejpeg` is libjpeg-turbo without Pillow's decoder, with all pixels and
with the same scale as ours; it is left out where it is not installed. `smallest scale` is libjpeg-turbo at 1/8 and
nothing else: what remains is the entropy decoding of the whole file, which no scale spares.

`stage` is all of the `data` stage (listing, hashing, the look for deep images, decoding, statistics, writing) and
`pillow, threads` the full decode, each in a process of its own with a thread for each CPU, with its peak memory.
`difference` is between our pixels and those of `pillow`, in levels of 255.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from figkd.data.decode import decode_square
from pipeline.core.files import write_json
from pipeline.places import environment

OUT = Path(__file__).parent / "results" / "decode.json"
SIZES = {"12 megapixels": (4000, 3000), "500 px": (500, 333)}
Pixels = npt.NDArray[np.uint8]
Loop = Callable[[Path, int], Any]

# Peaks are read from VmHWM: `ru_maxrss` of a child begins with what its parent had.
_PEAK = """
import json, sys, time
from pathlib import Path
root, out, side = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def megabytes(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) / 1024
def measured(work):
    before, began, busy = megabytes("VmRSS"), time.perf_counter(), time.process_time()
    work()
    print(json.dumps({"cpu_s": time.process_time() - busy, "s": time.perf_counter() - began,
                      "peak_mb": megabytes("VmHWM") - before}))
"""
_STAGE = (
    _PEAK
    + """
from figkd.data import decode, load_module, prepare
load_module("image_folder")
measured(lambda: prepare("image_folder", root, out, image_size=round(side * 7 / 8), store_size=side))
"""
)
_FULL = (
    _PEAK
    + """
from concurrent.futures import ThreadPoolExecutor
from bench_decode import pillow
from figkd.data.room import usable_cpus
def work():
    with ThreadPoolExecutor(usable_cpus()) as pool:
        for _ in pool.map(lambda file: pillow(file, side), sorted(root.rglob("*.jpg"))):
            pass
measured(work)
"""
)


def make_files(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Photographs in two folders, as `image_folder` reads them; no two are alike."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        photo = Image.fromarray(load_sample_images().images[number % 2])
        width, height = size
        left, top = rng.integers(0, 40, 2)
        cut = photo.crop((left, top, photo.width - 40 + left, photo.height - 40 + top))
        detail = np.asarray(cut, np.float32) - np.asarray(
            cut.reduce(8).resize(cut.size, Image.Resampling.BICUBIC), np.float32
        )
        repeats = (-(-height // cut.height), -(-width // cut.width), 1)
        pixels = np.asarray(cut.resize(size, Image.Resampling.BICUBIC), np.float32)
        if width > cut.width:
            pixels = pixels + 0.35 * np.tile(detail, repeats)[:height, :width]
        pixels = pixels + rng.normal(0, 2, (height, width, 1)).astype(np.float32)
        file = folder / f"class {number % 2}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=92)
        files.append(file)
    return files


def _centre(image: Image.Image, side: int) -> Pixels:
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def pillow(file: Path, side: int) -> Pixels:
    with Image.open(file) as image:
        return _centre(image.convert("RGB"), side)


def smallest_scale(file: Path, _side: int) -> None:
    with Image.open(file) as image:
        image.draft("RGB", (1, 1))
        image.load()


def loops() -> dict[str, Loop]:
    """Every loop by its name."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)

    def torchvision(file: Path, side: int) -> Any:
        pixels = decode_jpeg(read_file(str(file)), ImageReadMode.RGB)
        bicubic = functional.InterpolationMode.BICUBIC
        return functional.center_crop(
            functional.resize(pixels, [side], bicubic, antialias=True), [side, side]
        )

    found: dict[str, Loop] = {"ours": decode_square, "pillow": pillow, "torchvision": torchvision}
    try:
        import simplejpeg
    except ImportError:
        print("simplejpeg is not installed: left out (pip install simplejpeg)")
    else:

        def whole(file: Path, side: int) -> Pixels:
            return _centre(Image.fromarray(simplejpeg.decode_jpeg(file.read_bytes())), side)

        def reduced(file: Path, side: int) -> Pixels:
            data = file.read_bytes()
            small = simplejpeg.decode_jpeg(data, min_height=2 * side, min_width=2 * side, min_factor=1)
            return _centre(Image.fromarray(small), side)

        found |= {"simplejpeg": whole, "simplejpeg, reduced": reduced}
    return found | {"smallest scale": smallest_scale}


def take_turns(
    compared: dict[str, Loop], files: Sequence[Path], side: int, rounds: int
) -> dict[str, list[float]]:
    """CPU ms of each image, the mean over the files, by loop and round; the first round is not counted."""
    took: dict[str, list[float]] = {name: [] for name in compared}
    for turn in range(rounds + 1):
        for name, loop in compared.items():
            began = time.process_time()
            for file in files:
                loop(file, side)
            if turn:
                took[name].append((time.process_time() - began) * 1e3 / len(files))
    return took


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, number."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "q1": low, "q3": high, "n": len(values)}


def difference(files: Sequence[Path], side: int) -> dict[str, float]:
    """How far our pixels are from those of a full decode, in levels."""
    apart = np.stack(
        [np.abs(decode_square(f, side).astype(int) - pillow(f, side).astype(int)) for f in files]
    )
    return {
        "mean": float(apart.mean()),
        "p99": float(np.quantile(apart, 0.99)),
        "p99.99": float(np.quantile(apart, 0.9999)),
        "largest": int(apart.max()),
    }


def alone(code: str, folder: Path, side: int, count: int) -> dict[str, float]:
    """A program over all files in a process of its own, with a thread for each usable CPU."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", code, str(folder), str(Path(out) / "data"), str(side)]
        paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        variables = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    found = cast("dict[str, float]", json.loads(done.stdout))
    return {
        "cpu_ms_per_image": found["cpu_s"] * 1e3 / count,
        "images_per_s": count / found["s"],
        "peak_mb_above_its_start": found["peak_mb"],
    }


def compare(size: tuple[int, int], side: int, count: int, rounds: int) -> dict[str, Any]:
    """Everything about photographs of one size."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = make_files(folder, size, count)
        took = take_turns(loops(), files, side, rounds)
        programs = {"stage": _STAGE, "pillow, threads": _FULL}
        runs = [{name: alone(code, folder, side, count) for name, code in programs.items()} for _ in range(3)]
        found: dict[str, Any] = {
            "width": size[0],
            "height": size[1],
            "files": count,
            "mean_file_bytes": round(statistics.mean(file.stat().st_size for file in files)),
            "cpu_ms_per_image": {name: spread(values) for name, values in took.items()},
            "over_ours": {
                name: spread([a / b for a, b in zip(values, took["ours"], strict=True)])
                for name, values in took.items()
                if name != "ours"
            },
            "difference": difference(files[:20], side),
            "alone": {
                name: {key: statistics.median(run[name][key] for run in runs) for key in runs[0][name]}
                for name in programs
            },
        }
    return found


def show(name: str, found: dict[str, Any]) -> str:
    """A few lines of a result."""
    lines = [f"{name}: {found['files']} files of {found['mean_file_bytes'] / 1e6:.2f} MB"]
    for loop, row in found["cpu_ms_per_image"].items():
        ratio = found["over_ours"].get(loop, {"median": 1.0, "q1": 1.0, "q3": 1.0})
        lines.append(
            f"  {loop:<20} {row['median']:8.2f} ms of CPU   {ratio['median']:5.2f} x ours "
            f"({ratio['q1']:.2f} to {ratio['q3']:.2f})"
        )
    lines += [
        f"  {program:<20} {row['cpu_ms_per_image']:8.2f} ms of CPU   {row['images_per_s']:.0f} images/s, "
        f"{row['peak_mb_above_its_start']:.0f} MB more at its peak"
        for program, row in found["alone"].items()
    ]
    apart = found["difference"]
    lines.append(
        f"  pixels differ from a full decode's by {apart['mean']:.2f} levels on average, "
        f"99 % by at most {apart['p99']:.0f}, none by more than {apart['largest']}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=256, help="of the squares, pixels")
    parser.add_argument("--files", type=int, nargs=2, default=(40, 300), help="of 12 megapixels, of 500 px")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "what": "CPU time from a JPEG file to a square of `side` pixels, one thread, loops taking turns",
        "side": arguments.side,
        "cpu": environment.cpu_model(),
        "packages": environment.versions(("pillow", "torch", "torchvision", "simplejpeg", "numpy")),
        "libjpeg_turbo": _libjpeg(),
        "sizes": {},
    }
    for (name, size), count in zip(SIZES.items(), arguments.files, strict=True):
        result["sizes"][name] = compare(size, arguments.side, count, arguments.rounds)
        print(show(name, result["sizes"][name]), flush=True)
    write_json(arguments.out, result)


def _libjpeg() -> str:
    from PIL import features

    return str(features.version("libjpeg_turbo"))


if __name__ == "__main__":
    main()
