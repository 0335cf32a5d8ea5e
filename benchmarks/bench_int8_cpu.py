"""FP32 against INT8 on this CPU for five students, and why INT8 is not faster where it is not.

    python benchmarks/bench_int8_cpu.py [--rounds 15] [--seconds 0.2] [--models DIR]

Both files of a student take turns with 1 thread and with all; a speed-up is FP32's lowest sample over INT8's of the
same round, because other load only ever adds time, given as the median over rounds with its 95 % interval. The weights
are random: accuracy suffers, speed does not. The shares are counted in the Q/DQ file, what stays unfused in the graph
that ONNX Runtime made of it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rounds import lowest, undisturbed_ratio
from students import STUDENTS, images, make_fp32, make_int8

from export.engines import BACKENDS
from export.engines.onnxruntime import optimised_operators
from export.measure import measure_rounds
from export.quantised import quantised_share
from export.runtime.sampling import Limits
from pipeline.core.files import write_json
from pipeline.places import environment

OUT = Path(__file__).parent / "results" / "int8_cpu.json"
NETWORKS = (
    "resnet18",
    "resnet8x4",
    "efficientnet_lite0",
    "mobilenetv4_conv_small",
    "mobilenetv3_small",
    "dsconv_nano",
)


def measure(
    files: dict[str, Path], size: int, threads: list[int], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    image = images(size, 1, seed=1)
    engines = {
        (precision, count): BACKENDS["onnxruntime"].load(path, threads=count)
        for count in threads
        for precision, path in files.items()
    }
    cases = [(f"{p}|{n}", partial(engine.time, image)) for (p, n), engine in engines.items()]
    total = rounds * seconds
    found = measure_rounds(cases, Limits(0.2, rounds, total, 2 * total), rounds=rounds).samples()
    return [
        {
            "threads": count,
            "median_ms": {p: float(np.median(found[f"{p}|{count}"].latency)) for p in files},
            "lowest_ms": {p: float(np.median(lowest(found[f"{p}|{count}"]))) for p in files},
            "n": {p: len(found[f"{p}|{count}"].latency) for p in files},
            "speedup": undisturbed_ratio(found[f"fp32|{count}"], found[f"int8|{count}"]),
        }
        for count in threads
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.2, help="sampling time of a file in a round")
    parser.add_argument("--models", type=Path, help="keep the ONNX files here")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    threads = sorted({1, environment.cores()})
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.models or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.networks:
            files = {"fp32": make_fp32(name, folder), "int8": make_int8(name, folder)}
            size = STUDENTS[name].image_size
            timed = measure(files, size, threads, arguments.rounds, arguments.seconds)
            share = asdict(quantised_share(files["int8"]))
            operators = {p: optimised_operators(path) for p, path in files.items()}
            rows.append(
                {"network": name, "image_size": size, "timed": timed, "share": share, "operators": operators}
            )
            for row in timed:
                faster = row["speedup"]
                print(
                    f"{name:<24} {row['threads']} threads  fp32 {row['lowest_ms']['fp32']:8.3f} ms  "
                    f"int8 {row['lowest_ms']['int8']:8.3f} ms  "
                    f"x {faster['ratio']:.2f} ({faster['low']:.2f} to {faster['high']:.2f})",
                    flush=True,
                )
            print(f"  {share}\n  {operators['int8']}", flush=True)
    result = {
        "what": "lowest FP32 latency of a round over INT8's, batch 1, files in turns; 95 % intervals over rounds",
        "rounds": arguments.rounds, "seconds": arguments.seconds, "rows": rows,
        "machine": {
            "cpu": environment.cpu_model(), "cores": environment.cores(), "load_1min": os.getloadavg()[0],
        },
        "packages": environment.versions(("onnxruntime", "onnx", "numpy")),
    }  # fmt: skip
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
