"""Freed memory that is kept, or given back to the system, while networks train and predict and images are decoded.

    python benchmarks/bench_heap.py [--networks resnet8x4 ...] [--rounds 7] [--seconds 4] [--replicas 2]

Each network has two processes that live through all rounds and take turns: one as it comes (`figkd.heap`), one in which
glibc's malloc works as it does by default, since the environment names a setting of it (its default). Each trains for
some seconds, without the first step, and then predicts images with the trained network. Minor page faults are those of
the measured steps; the peak is the largest resident memory of the whole process. So do formats whose images have no
smaller scale to decode: 20 times one photograph of 12 megapixels, in as many threads as there are cores, to 256 px. A
ratio is of rates in the same round, kept over given back: medians over rounds, with quartiles and n.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_limit import NETWORKS
from device import facts, random_images, spread
from workers import Enough, answer, workers

from figkd.files import write_json

OUT = Path(__file__).parent / "results" / "heap.json"
# The default of glibc on 64 bits, said by the user: figkd then leaves malloc as it is.
WAYS: dict[str, dict[str, str]] = {"given back": {"GLIBC_TUNABLES": "glibc.malloc.arena_test=8"}, "kept": {}}
FORMATS: dict[str, dict[str, int]] = {"webp": {"quality": 90}, "tiff": {}, "png": {"compress_level": 1}}
"""How Pillow saves the photograph."""
PHOTOGRAPHS = 20


def measurement(network: str, replicas: int) -> Callable[[float], dict[str, float]]:
    """A function that trains for some seconds, and gives rates, faults and memory."""
    import torch

    from figkd.data.views import make_views
    from figkd.evaluate import predict
    from figkd.loss.build import build_loss
    from figkd.models import build_model
    from figkd.train import train

    name, side, classes, batch, _ = NETWORKS[network]
    torch.manual_seed(0)
    model = build_model(name, classes, image_size=side)
    split = random_images(100 * batch, side, classes)
    shown = split.images[: 40 * batch]
    views = make_views("shift_flip", image_size=side, store_size=side, pad=4, count=1)

    def run(seconds: float) -> dict[str, float]:
        steps, began, faults = -1, 0.0, 0

        def after(*_: object) -> None:
            nonlocal steps, began, faults
            steps += 1
            if steps == 0:
                began, faults = time.perf_counter(), faulted()
            elif time.perf_counter() - began > seconds:
                raise Enough

        with contextlib.suppress(Enough):
            train(
                model, split, loss=build_loss("ce", classes), views=views, epochs=1, batch_size=batch, lr=0.01,
                replicas=replicas, progress=after,
            )  # fmt: skip
        training, faults = time.perf_counter() - began, faulted() - faults
        predict(model.eval(), shown, image_size=side, device="cpu")
        began = time.perf_counter()
        predict(model, shown, image_size=side, device="cpu")
        return {
            "training": steps * batch / training,
            "prediction": len(shown) / (time.perf_counter() - began),
            "faults_per_step": faults / steps,
            "peak_mb": peak_mb(),
        }

    return run


def decoding(form: str) -> Callable[[float], dict[str, float]]:
    """A function that decodes photographs, and gives the rate, faults of an image and memory."""
    import io

    from PIL import Image
    from sklearn.datasets import load_sample_image

    from figkd.data.decode import Job, decode_many
    from figkd.data.room import usable_cpus

    file = io.BytesIO()
    photograph = Image.fromarray(load_sample_image("china.jpg")).resize(
        (4000, 3000), Image.Resampling.BICUBIC
    )
    photograph.save(file, form, **FORMATS[form])
    jobs = [Job(file.getvalue)] * PHOTOGRAPHS

    def run(_: float) -> dict[str, float]:
        began, faults = time.perf_counter(), faulted()
        for _ in decode_many(jobs, 256, usable_cpus()):
            pass
        return {
            "decoding": len(jobs) / (time.perf_counter() - began),
            "faults_per_image": (faulted() - faults) / len(jobs),
            "peak_mb": peak_mb(),
        }

    return run


def peak_mb() -> float:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def faulted() -> int:
    """Minor page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def serve(name: str, replicas: int) -> None:
    """A worker: a line with seconds comes in, a line of JSON goes out."""
    run = decoding(name) if name in FORMATS else measurement(name, replicas)
    run(0.2)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(float(line))), flush=True)


def compare(worker: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both ways of a network or a format, in turns."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    words = [__file__, "--worker", worker, "--replicas", str(arguments.replicas)]
    environs = {name: {**plain, **variables} for name, variables in WAYS.items()}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    with workers(dict.fromkeys(WAYS, words), environs) as ready:
        for turn in range(arguments.rounds):
            for name in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
                rounds[name].append(json.loads(answer(ready[name], str(arguments.seconds))))
    ways = {
        name: {key: spread([row[key] for row in rows]) for key in rows[0]} for name, rows in rounds.items()
    }
    ratios = {
        key: spread([
            kept[key] / back[key] for kept, back in zip(rounds["kept"], rounds["given back"], strict=True)
        ])
        for key in rounds["kept"][0] if not key.startswith("faults")
    }  # fmt: skip
    return {"kept_over_given_back": ratios, "ways": ways, "rounds": rounds}


def of_network(network: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both ways of a network."""
    _, side, _, batch, _ = NETWORKS[network]
    about = {"network": network, "side": side, "batch": batch, "replicas": arguments.replicas}
    return {**about, **compare(network, arguments)}


def show(about: str, found: dict[str, Any]) -> str:
    """A line of a network or a format."""
    parts = []
    for key, ratio in found["kept_over_given_back"].items():
        parts.append(f"{key} {ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})")
    key = next(key for key in found["ways"]["kept"] if key.startswith("faults"))
    before, now = (found["ways"][name][key]["median"] for name in WAYS)
    return f"{about}: {', '.join(parts)}; {key.replace('_', ' ')} {before:,.0f}, now {now:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4, help="of each training")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--worker", choices=[*NETWORKS, *FORMATS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(arguments.worker, arguments.replicas)
        return
    if arguments.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    formats, networks = {}, []
    for form in FORMATS:
        formats[form] = compare(form, arguments)
        print(show(form, formats[form]), flush=True)
    for network in arguments.networks:
        found = of_network(network, arguments)
        networks.append(found)
        about = f"{network} at {found['side']} px, batch {found['batch']}, replicas {found['replicas']}"
        print(show(about, found), flush=True)
    command = f"python benchmarks/bench_heap.py {shlex.join(sys.argv[1:])}"
    write_json(arguments.out, {"command": command, **facts("cpu"), "formats": formats, "networks": networks})


if __name__ == "__main__":
    main()
