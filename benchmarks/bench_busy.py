"""Training and scoring on a machine that does other work: how much of the fair share is left?

    python benchmarks/bench_busy.py [--foreign 0 1 2 3] [--rounds 4] [--seconds 2.5] [--before COMMIT]

Foreign processes count in a loop. In every round and with every number of them, the ways take turns, each in a
process of its own that lives through all rounds: training (`--network`, 32 px, batches of 64, cross entropy) as a
config has it by default ("auto", `figkd.free_cores` and `figkd.openmp`); with all threads as the command has them
(`figkd.openmp`), as OpenMP has them by default, or asleep while they wait; with a replica for each core; with one
thread; as an earlier commit trained by default; and scoring in ONNX Runtime with threads that spin or sleep. Nine
minutes on two cores, which have to be quiet otherwise. Needs git and the commit's history.

The fair share of C cores with F foreign processes is C - F cores, and at least C / (F + 1); `share` is the rate over
that many times the rate of one thread with the fewest of them (none); `over_default` and `over_before` the rates over
those of OpenMP's default and of the earlier commit in the same round. Medians over rounds, with quartiles and n.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commits import ROOT, SLOWER, check_out
from workers import Enough, answer, workers

from export.runtime.cpu import usable_cores
from figkd_pipeline.openmp import SPINS
from pipeline.core.files import write_json
from pipeline.places import environment

OUT = Path(__file__).parent / "results" / "busy.json"
CLASSES, SIDE, BATCH = 21, 32, 64
DEFAULT, ONE, BEFORE = "default", "one thread", "before"


@dataclass(frozen=True)
class Way:
    """How threads wait, in training (`spinning` None) or in ONNX Runtime; `one` takes a single thread.

    With `replicas` a core is given to each part of a micro-batch, else all share every operation. With `auto` training
    chooses its number of threads when it begins. `before` runs the earlier commit's code.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    spinning: bool | None = None
    one: bool = False
    replicas: bool = False
    auto: bool = False
    before: bool = False


WAYS = {
    # Both are the defaults; said here, threads stay as they are whatever the load.
    DEFAULT: Way({"GOMP_SPINCOUNT": "300000", "OMP_PROC_BIND": "false"}),
    BEFORE: Way({"GOMP_SPINCOUNT": "300000", "OMP_PROC_BIND": "false"}, before=True),
    "auto": Way({"GOMP_SPINCOUNT": SPINS}, auto=True),
    "all threads": Way({"GOMP_SPINCOUNT": SPINS}),
    "asleep": Way({"OMP_WAIT_POLICY": "PASSIVE"}),
    "replicas": Way({"GOMP_SPINCOUNT": SPINS}, replicas=True),
    ONE: Way(one=True),
    "scoring, spinning": Way(spinning=True),
    "scoring, asleep": Way(spinning=False),
    "scoring, one thread": Way(spinning=False, one=True),
}


def trainer(network: str, replicas: int, auto: bool) -> Callable[[float], float]:
    """A function that trains for some seconds; images/s, without the first step."""
    import numpy as np
    import torch

    from figkd.data.split import Split
    from figkd.data.views import make_views
    from figkd.loss.build import build_loss
    from figkd.models import build_model
    from figkd.train import train

    rng = np.random.default_rng(0)
    count = 400 * BATCH
    images = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    split = Split(images, rng.integers(0, CLASSES, count), [str(number) for number in range(count)])
    # An earlier commit has neither.
    options: dict[str, Any] = {"replicas": replicas} if replicas > 1 else {}
    options |= {"threads": "auto"} if auto else {}
    views = make_views("shift_flip", image_size=SIDE, store_size=SIDE, pad=4, count=1)
    torch.manual_seed(0)

    def run(seconds: float) -> float:
        steps, began = -1, 0.0

        def after(*_: object) -> None:
            nonlocal steps, began
            steps += 1
            began = began or time.perf_counter()
            if steps and time.perf_counter() - began > seconds:
                raise Enough

        with contextlib.suppress(Enough):
            train(
                build_model(network, CLASSES, image_size=SIDE), split, loss=build_loss("ce", CLASSES), views=views,
                epochs=1, batch_size=BATCH, lr=0.01, progress=after, **options,
            )  # fmt: skip
        return steps * BATCH / (time.perf_counter() - began)

    return run


def scorer(network: str, threads: int, spinning: bool) -> Callable[[float], float]:
    """A function that infers for some seconds; images/s."""
    import numpy as np
    import torch

    from export.onnx import export_onnx
    from export.runtime.onnx_session import load
    from figkd.models import build_model

    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        model = build_model(network, CLASSES, image_size=SIDE).eval()
        export_onnx(model, torch.from_numpy(images[:2]), path, dynamic_batch=True)
        engine = load(path, threads=threads, spinning=spinning)

    def run(seconds: float) -> float:
        engine.infer(images)
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            engine.infer(images)
            done += BATCH
        return done / (time.perf_counter() - began)

    return run


def serve(network: str, way: Way) -> None:
    """A worker: a line with seconds comes in, a line with the rate goes out."""
    import torch

    threads = 1 if way.one else usable_cores()
    torch.set_num_threads(threads)
    replicas = threads if way.replicas else 1
    run = (
        trainer(network, replicas, way.auto)
        if way.spinning is None
        else scorer(network, threads, way.spinning)
    )
    run(0.2)
    print("ready", flush=True)
    for line in sys.stdin:
        print(run(float(line)), flush=True)


@contextlib.contextmanager
def foreign(count: int) -> Iterator[None]:
    """So many processes that count in a loop."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(hog.wait)
            stack.callback(hog.kill)
        time.sleep(0.2)
        yield


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, number."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high, "n": len(values)}


def summary(rates: Mapping[int, Mapping[str, list[float]]], cores: int) -> list[dict[str, Any]]:
    """A row for each number of foreign processes and way."""
    rows = []
    for count, by_way in rates.items():
        fair = max(cores - count, cores / (count + 1))
        for name, values in by_way.items():
            scoring = name.startswith("scoring")
            alone = rates[min(rates)]["scoring, one thread" if scoring else ONE]
            first = by_way["scoring, spinning" if scoring else DEFAULT]
            rows.append({
                "foreign": count, "way": name, "fair_cores": fair, "images_per_s": spread(values),
                "share": spread([rate / fair / single for rate, single in zip(values, alone, strict=True)]),
                "over_default": spread([rate / other for rate, other in zip(values, first, strict=True)]),
            } | ({} if scoring else {
                "over_before": spread([rate / other for rate, other in zip(values, by_way[BEFORE], strict=True)]),
            }))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--foreign", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each measurement")
    parser.add_argument("--network", default="figkd/resnet_tiny")
    parser.add_argument("--before", default=SLOWER, metavar="COMMIT")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(arguments.network, WAYS[arguments.worker])
        return
    if arguments.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    rates: dict[int, dict[str, list[float]]] = {
        count: {name: [] for name in WAYS} for count in arguments.foreign
    }
    with tempfile.TemporaryDirectory() as parent, contextlib.ExitStack() as stack:
        commit = check_out(arguments.before, Path(parent) / "before")
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
        homes = {name: Path(parent) / "before" if way.before else ROOT for name, way in WAYS.items()}
        words = {name: [__file__, "--worker", name, "--network", arguments.network] for name in WAYS}
        environs = {
            name: {**plain, **way.variables, "PYTHONPATH": str(homes[name])} for name, way in WAYS.items()
        }
        ready = stack.enter_context(workers(words, environs))
        for turn in range(arguments.rounds):
            for count in arguments.foreign:
                with foreign(count):
                    for name, process in ready.items():
                        rates[count][name].append(float(answer(process, str(arguments.seconds))))
            print(f"round {turn + 1} of {arguments.rounds}", flush=True)
    rows = summary(rates, usable_cores())
    for row in rows:
        share, over = row["share"], row["over_default"]
        ago = f"   {row['over_before']['median']:5.2f} x before" if "over_before" in row else ""
        print(
            f"{row['foreign']} foreign  {row['way']:<20} {row['images_per_s']['median']:8.0f} images/s   "
            f"{share['median']:5.2f} of the fair share ({share['q1']:.2f} to {share['q3']:.2f})   "
            f"{over['median']:6.2f} x the default{ago}"
        )
    result = {
        "what": "images/s with foreign processes beside; ways take turns, see bench_busy.py",
        "before": commit,
        "network": arguments.network,
        "batch": BATCH,
        "cpu": environment.cpu_model(),
        "cores": usable_cores(),
        "kernel": os.uname().release,
        "packages": environment.versions(("torch", "onnxruntime")),
        "rows": rows,
        "rates": {str(count): found for count, found in rates.items()},
    }
    write_json(arguments.out, json.loads(json.dumps(result)))


if __name__ == "__main__":
    main()
