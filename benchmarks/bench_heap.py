"""Freed memory that is kept, or given back to the system, while networks train and predict on a CPU.

    python benchmarks/bench_heap.py [--networks resnet8x4 ...] [--rounds 7] [--seconds 4] [--replicas 2]

Each network has two processes that live through all rounds and take turns: one as it comes (`figkd.heap`), one in which
glibc's malloc works as it does by default, since the environment names a setting of it (its default). Each trains for
some seconds, without the first step, and then predicts images with the trained network. Minor page faults are those of
the measured steps; the peak is the largest resident memory of the whole process. A ratio is of rates in the same round,
kept over given back: medians over rounds, with quartiles and n.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_limit import NETWORKS
from device import facts, random_images, spread

from figkd.files import write_json

OUT = Path(__file__).parent / "results" / "heap.json"
# The default of glibc on 64 bits, said by the user: figkd then leaves malloc as it is.
WAYS: dict[str, dict[str, str]] = {"given back": {"GLIBC_TUNABLES": "glibc.malloc.arena_test=8"}, "kept": {}}


class Enough(Exception):
    pass


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
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }

    return run


def faulted() -> int:
    """Minor page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def serve(network: str, replicas: int) -> None:
    """A worker: a line with seconds comes in, a line of JSON goes out."""
    run = measurement(network, replicas)
    run(0.2)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(float(line))), flush=True)


def compare(network: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both ways of a network, in turns."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    words = ["--worker", network, "--replicas", str(arguments.replicas)]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, variables in WAYS.items():
            process = subprocess.Popen(
                [sys.executable, __file__, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**plain, **variables},
            )  # fmt: skip
            stack.callback(process.kill)
            workers[name] = process
            assert process.stdin is not None and process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                sys.exit(f"error: the worker {name!r} of {network} did not start")
        for turn in range(arguments.rounds):
            for name in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
                process = workers[name]
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(f"{arguments.seconds}\n")
                process.stdin.flush()
                rounds[name].append(json.loads(process.stdout.readline()))
    ways = {
        name: {key: spread([row[key] for row in rows]) for key in rows[0]} for name, rows in rounds.items()
    }
    ratios = {
        key: spread([
            kept[key] / back[key] for kept, back in zip(rounds["kept"], rounds["given back"], strict=True)
        ])
        for key in ("training", "prediction", "peak_mb")
    }  # fmt: skip
    _, side, _, batch, _ = NETWORKS[network]
    about = {"network": network, "side": side, "batch": batch, "replicas": arguments.replicas}
    return {**about, "kept_over_given_back": ratios, "ways": ways, "rounds": rounds}


def show(found: dict[str, Any]) -> str:
    """A line of a network."""
    parts = []
    for key, ratio in found["kept_over_given_back"].items():
        parts.append(f"{key} {ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})")
    before, now = (found["ways"][name]["faults_per_step"]["median"] for name in WAYS)
    about = f"{found['network']} at {found['side']} px, batch {found['batch']}, replicas {found['replicas']}"
    return f"{about}: {', '.join(parts)}; faults a step {before:,.0f}, now {now:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4, help="of each training")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--worker", choices=NETWORKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(arguments.worker, arguments.replicas)
        return
    if arguments.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    rows = []
    for network in arguments.networks:
        rows.append(compare(network, arguments))
        print(show(rows[-1]), flush=True)
    command = f"python benchmarks/bench_heap.py --rounds {arguments.rounds} --seconds {arguments.seconds:g}"
    write_json(arguments.out, {"command": command, **facts("cpu"), "networks": rows})


if __name__ == "__main__":
    main()
