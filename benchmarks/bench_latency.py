"""Does our ONNX Runtime latency agree with a plain loop? Interleaved in one run; ratios, n, mean, spread.

    python benchmarks/bench_latency.py MODEL.onnx [--rounds 15]

Without a model, the newest FP32 engine of `runs/fonts_cpu` is taken.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from export.engines import BACKENDS
from pipeline import environment
from pipeline.files import write_json

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "latency_agreement.json"


def plain_median(session: Any, image: np.ndarray, count: int) -> float:
    """Milliseconds: the loop that a person would write by hand."""
    name = session.get_inputs()[0].name
    for _ in range(count // 10):
        session.run(None, {name: image})
    times = []
    for _ in range(count):
        start = time.perf_counter()
        session.run(None, {name: image})
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", default=ROOT / "runs/fonts_cpu/engines/cpu/fp32.onnx")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = environment.cores()
    session = onnxruntime.InferenceSession(str(arguments.model), options, providers=["CPUExecutionProvider"])
    engine = BACKENDS["onnxruntime"].load(arguments.model, threads=environment.cores())
    image = np.zeros((1, *engine.input_shape), engine.input_dtype)
    ratios, ours_ms, plain_ms = [], [], []
    for turn in range(arguments.rounds):
        pair = {}
        for who in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            if who == "ours":
                timed = engine.time(
                    image,
                    boundary="engine+copies",
                    warmup_s=0.02,
                    min_samples=arguments.count,
                    min_seconds=0.0,
                )
                pair[who] = float(np.median(timed.latency))
            else:
                pair[who] = plain_median(session, image, arguments.count)
        ours_ms.append(pair["ours"])
        plain_ms.append(pair["plain"])
        ratios.append(pair["ours"] / pair["plain"])
    result = {
        "what": "median latency, ours (boundary engine+copies) over a plain loop of session.run, interleaved rounds",
        "model": arguments.model.name,
        "rounds": arguments.rounds,
        "samples_a_round": arguments.count,
        "ours_ms": {"mean": statistics.mean(ours_ms), "std": statistics.stdev(ours_ms)},
        "plain_ms": {"mean": statistics.mean(plain_ms), "std": statistics.stdev(plain_ms)},
        "ratio": {
            "median": statistics.median(ratios),
            "mean": statistics.mean(ratios),
            "std": statistics.stdev(ratios),
        },
        "machine": {"cpu": environment.cpu_model(), "cores": environment.cores()},
        "packages": environment.versions(("onnxruntime", "numpy")),
    }
    write_json(OUT, result)
    print(
        f"ours / plain: median {result['ratio']['median']:.3f}, mean {result['ratio']['mean']:.3f}, "
        f"std {result['ratio']['std']:.3f}, n = {arguments.rounds} rounds of {arguments.count} samples"
    )


if __name__ == "__main__":
    main()
