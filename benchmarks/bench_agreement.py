"""Does our latency agree with a tool that is not ours, and what does our own loop cost?

    python benchmarks/bench_agreement.py [--pairs 6] [--rounds 12] [--seconds 0.1] [--models DIR]

The other tool is `plain_loop.py`, which uses ONNX Runtime directly and imports nothing of this project. Both run in
processes of their own and take short turns; who is first alternates, and a new pair of processes (another layout of
memory) comes after some rounds. A ratio is our median over the other's in the same round; given are median, mean and
spread over all rounds; and the same of the lowest deciles, which other load disturbs less. The cost of our loop is
measured with a query that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.files import write_json
from pipeline.places import environment

HERE = Path(__file__).parent
OUT = HERE / "results" / "agreement.json"
NETWORKS = ("dsconv_nano", "resnet8x4", "mobilenetv4_conv_small", "resnet18")
BOUNDARIES = {"engine": "engine", "engine+copies": "copies"}
ALLOWED_RATIO, ALLOWED_OVERHEAD_US = 0.03, 20.0


def serve(model: str, boundary: str, threads: int, warmup: float) -> None:
    """Our measurement as a process like `plain_loop.py`: sample counts in, samples in ns out."""
    from export.engines import BACKENDS
    from export.runtime.sampling import Limits

    engine = BACKENDS["onnxruntime"].load(Path(model), threads=threads)
    shape = (1, *engine.input_shape)
    image = np.random.default_rng(0).integers(0, 255, shape).astype(engine.input_dtype)
    for line in sys.stdin:
        limits = Limits(warmup, int(line), 0.0, 600.0)
        found = engine.time(image, limits, boundary=boundary)  # type: ignore[arg-type]
        print(json.dumps([round(value * 1e6) for value in found.latency]), flush=True)


def loop_cost_us(samples: int = 200_000) -> dict[str, float]:
    """Microseconds a query of our loop alone: inside of what is timed, and in all."""
    from export.runtime.sampling import Limits, sample_query

    limits = Limits(0.1, samples, 0.0, 60.0)
    found = sample_query(lambda: None, limits, batch=1, boundary="engine")
    return {
        "inside_timed_region": 1000 * float(np.median(found.latency)),
        "in_all": 1e6 * found.wall_seconds / len(found.latency),
    }


class Tool:
    """A measuring process that answers a number of samples with their median and lowest decile."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
        )

    def ask(self, samples: int) -> tuple[float, float]:
        """Median and lowest decile of so many new samples, ms."""
        assert self._process.stdin and self._process.stdout
        print(samples, file=self._process.stdin, flush=True)
        found = np.array(json.loads(self._process.stdout.readline())) / 1e6
        return float(np.median(found)), float(np.quantile(found, 0.1))

    def close(self) -> None:
        self._process.communicate()


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {
        "median": middle, "mean": statistics.mean(values), "std": statistics.stdev(values),
        "quartiles": [low, high], "min": min(values), "max": max(values),
    }  # fmt: skip


def compare(
    model: Path, boundary: str, threads: int, pairs: int, rounds: int, seconds: float
) -> dict[str, Any]:
    common = [str(model), "--threads", str(threads), "--boundary"]
    commands = {
        "ours": [sys.executable, __file__, "--serve", *common, boundary],
        "other": [sys.executable, str(HERE / "plain_loop.py"), *common, BOUNDARIES[boundary]],
    }
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "other": []}
    samples = 0
    for _ in range(pairs):
        tools = {who: Tool(command) for who, command in commands.items()}
        samples = samples or max(15, int(seconds * 1000 / tools["other"].ask(50)[1]))
        for tool in tools.values():
            tool.ask(samples)  # the first turn is for the page tables and the clocks
        for turn in range(rounds):
            for who in ("ours", "other") if turn % 2 else ("other", "ours"):
                found[who].append(tools[who].ask(samples))
        for tool in tools.values():
            tool.close()
    medians = {who: [median for median, _ in rows] for who, rows in found.items()}
    deciles = {who: [decile for _, decile in rows] for who, rows in found.items()}
    ratios = [a / b for a, b in zip(medians["ours"], medians["other"], strict=True)]
    undisturbed = [a / b for a, b in zip(deciles["ours"], deciles["other"], strict=True)]
    gaps = [1000 * (a - b) for a, b in zip(medians["ours"], medians["other"], strict=True)]
    return {
        "boundary": boundary, "threads": threads, "pairs": pairs, "rounds": len(ratios),
        "samples_a_round": samples, "ratio": spread(ratios),
        "ratio_of_lowest_deciles": spread(undisturbed), "difference_us": spread(gaps),
        "ours_ms": spread(medians["ours"]), "other_ms": spread(medians["other"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=6, help="pairs of processes, one after the other")
    parser.add_argument("--rounds", type=int, default=12, help="rounds of each pair")
    parser.add_argument("--seconds", type=float, default=0.1, help="sampling time of a tool in a round")
    parser.add_argument("--warmup", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--models", type=Path, help="keep the ONNX files here")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--boundary", default="engine", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.boundary, arguments.threads, arguments.warmup)
        return
    from students import make_fp32

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.models or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in arguments.networks:
            model = make_fp32(name, folder)
            for boundary in BOUNDARIES:
                row = compare(
                    model,
                    boundary,
                    arguments.threads,
                    arguments.pairs,
                    arguments.rounds,
                    arguments.seconds,
                )
                rows.append({"network": name, **row})
                ratio = row["ratio"]
                print(
                    f"{name:<24} {boundary:<14} {row['other_ms']['median']:8.3f} ms  ours/other "
                    f"{ratio['median']:.4f} (quartiles {ratio['quartiles'][0]:.3f} to {ratio['quartiles'][1]:.3f}; "
                    f"lowest decile {row['ratio_of_lowest_deciles']['median']:.4f}), "
                    f"{row['difference_us']['median']:+.2f} us, n = {row['rounds']} x {row['samples_a_round']}",
                    flush=True,
                )
    cost = loop_cost_us()
    engine = [row for row in rows if row["boundary"] == "engine"]
    passed = cost["in_all"] < ALLOWED_OVERHEAD_US and all(
        abs(row["ratio"]["median"] - 1) <= ALLOWED_RATIO for row in engine
    )
    print(
        f"our loop: {cost['inside_timed_region']:.2f} us inside, {cost['in_all']:.2f} us in all, an inference"
    )
    result = {
        "what": "our median latency over plain_loop.py's, processes in turns",
        "allowed": {"ratio": ALLOWED_RATIO, "overhead_us": ALLOWED_OVERHEAD_US},
        "passed": passed,
        "loop_us": cost,
        "rows": rows,
        "machine": {
            "cpu": environment.cpu_model(),
            "cores": environment.cores(),
            "load_1min": os.getloadavg()[0],
        },
        "packages": environment.versions(("onnxruntime", "numpy")),
    }
    write_json(arguments.out, result)
    print("agrees" if passed else "DOES NOT AGREE: run it on a quiet machine")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
