"""What each of ONNX Runtime's knobs brings on this CPU, against the settings that this project uses.

    python benchmarks/bench_ort_tuning.py [--networks ...] [--rounds 15] [--seconds 0.1] [--models DIR]

All variants of a network live in one process and take turns; a ratio is a variant's lowest sample over that of our
settings in the same round, because other load only ever adds time, given as the median over rounds with its 95 %
interval. Above 1: the variant is slower than ours.
`denormals` is a network of its own whose activations are denormal numbers, in processes of their own, because ONNX
Runtime sets the calling thread's mode with the first session of a process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from rounds import lowest, undisturbed_ratio
from students import STUDENTS, images, make_fp32, make_int8

from export.engines import BACKENDS
from export.engines.onnxruntime import DISABLED_OPTIMIZERS
from export.measure import measure_rounds
from export.runtime.sampling import Limits, sample_query
from export.stats import ratio
from pipeline.core.files import write_json
from pipeline.places import environment

OUT = Path(__file__).parent / "results" / "ort_tuning.json"
NETWORKS = ("dsconv_nano", "mobilenetv4_conv_small", "mobilenetv4_conv_small-int8", "resnet18")
OURS = "ours"
Options = dict[str, Any]
LEVELS = ort.GraphOptimizationLevel


def variants(cores: int) -> dict[str, Options]:
    """Name to what differs from our settings."""
    found: dict[str, Options] = {
        OURS: {},
        "graph optimisation off": {"graph_optimization_level": LEVELS.ORT_DISABLE_ALL},
        "graph optimisation basic": {"graph_optimization_level": LEVELS.ORT_ENABLE_BASIC},
        "graph optimisation extended (no layout)": {"graph_optimization_level": LEVELS.ORT_ENABLE_EXTENDED},
        "no I/O binding": {"binding": False},
        "no memory arena": {"enable_cpu_mem_arena": False},
        "no memory pattern": {"enable_mem_pattern": False},
        "no pre-packed weights": {"session.disable_prepacking": "1"},
        "parallel execution mode": {
            "execution_mode": ort.ExecutionMode.ORT_PARALLEL, "inter_op_num_threads": cores,
        },
        "loaded from the optimised file": {"optimised": True},
    }  # fmt: skip
    if cores > 1:
        found["1 thread"] = {"intra_op_num_threads": 1}
        found[f"{cores} threads without spinning"] = {"session.intra_op.allow_spinning": "0"}
        found["library's default threads"] = {"intra_op_num_threads": 0}
    return found


def session(path: Path, options: Options, cores: int) -> Any:
    """A session with our settings and what differs."""
    made = ort.SessionOptions()
    made.log_severity_level = 4
    made.inter_op_num_threads = 1
    made.intra_op_num_threads = cores
    for key, value in options.items():
        if key.startswith("session."):
            made.add_session_config_entry(key, value)
        elif key not in ("binding", "optimised"):
            setattr(made, key, value)
    if options.get("optimised"):
        cache = path.with_suffix(".optimised")
        if not cache.is_file():
            made.optimized_model_filepath = str(cache)
            _create(path, made)
            made.optimized_model_filepath = ""
        made.graph_optimization_level = LEVELS.ORT_DISABLE_ALL
        path = cache
    return _create(path, made)


def _create(path: Path, options: Any) -> Any:
    return ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(DISABLED_OPTIMIZERS)
    )


def query(made: Any, image: np.ndarray, binding: bool) -> Callable[[], None]:
    name, out = made.get_inputs()[0].name, made.get_outputs()[0].name
    if not binding:
        return lambda: made.run([out], {name: image}) and None
    logits = ort.OrtValue.ortvalue_from_numpy(made.run([out], {name: image})[0])
    source = ort.OrtValue.ortvalue_from_numpy(image)
    bound = made.io_binding()
    bound.bind_ortvalue_input(name, source)
    bound.bind_ortvalue_output(out, logits)
    return lambda keep=(source, logits): made.run_with_iobinding(bound)


def tune(path: Path, size: int, cores: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    image = images(size, 1, seed=1)
    cases, creation = [], {}
    for name, options in variants(cores).items():
        made = session(path, options, cores)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            session(path, options, cores)
            times.append(time.perf_counter() - start)
        creation[name] = 1000 * min(times)
        run = query(made, image, options.get("binding", True))
        cases.append((name, partial(sample_query, run, batch=1, boundary=name)))
    total = rounds * seconds
    found = measure_rounds(cases, Limits(0.1, 1, total, total), rounds=rounds).samples()
    return [
        {
            "variant": name, "median_ms": float(np.median(found[name].latency)), "n": len(found[name].latency),
            "lowest_ms": float(np.median(lowest(found[name]))), "create_ms": creation[name],
            "against_ours": undisturbed_ratio(found[name], found[OURS]),
        }
        for name in found
    ]  # fmt: skip


def denormals(folder: Path, rounds: int) -> dict[str, Any]:
    """A convolution chain whose activations shrink into the denormal range, with and without the setting."""
    import torch

    from export.onnx import export_onnx

    path = folder / "denormals.onnx"
    layers = [torch.nn.Conv2d(32, 32, 3, padding=1, bias=False) for _ in range(4)]
    for layer, scale in zip(layers, (1e-38, 1e-2, 1.0, 1.0), strict=True):
        torch.nn.init.constant_(layer.weight, scale / 288)
    export_onnx(torch.nn.Sequential(*layers).eval(), torch.ones(1, 32, 28, 28), path, dynamic_batch=False)
    medians: dict[str, list[float]] = {"off": [], "on": []}
    for turn in range(rounds):
        for flag in ("off", "on") if turn % 2 else ("on", "off"):
            command = [sys.executable, __file__, "--denormals-of", str(path), flag]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            medians[flag].append(json.loads(done.stdout))
    return {
        "network": "4 convolutions of denormal activations",
        "off_ms": float(np.median(medians["off"])), "on_ms": float(np.median(medians["on"])),
        "off_over_on": ratio(medians["off"], medians["on"]),
    }  # fmt: skip


def time_denormals(path: Path, on: bool) -> None:
    engine = BACKENDS["onnxruntime"].load(path, threads=1, denormals_as_zero=on)
    image = np.ones((1, *engine.input_shape), np.float32)
    print(float(np.median(engine.time(image, Limits(min_samples=50, max_seconds=2.0)).latency)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.1, help="sampling time of a variant in a round")
    parser.add_argument("--models", type=Path, help="keep the ONNX files here")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--denormals-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.denormals_of:
        time_denormals(Path(arguments.denormals_of[0]), arguments.denormals_of[1] == "on")
        return
    cores = environment.cores()
    networks = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.models or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.networks:
            base = name.removesuffix("-int8")
            path = make_int8(base, folder) if name.endswith("-int8") else make_fp32(base, folder)
            size = STUDENTS[base].image_size
            networks[name] = tune(path, size, cores, arguments.rounds, arguments.seconds)
            print(name)
            for row in networks[name]:
                against = row["against_ours"]
                print(
                    f"  {row['variant']:<40} {row['lowest_ms']:8.3f} ms, n = {row['n']:>6}  x {against['ratio']:.3f} "
                    f"({against['low']:.3f} to {against['high']:.3f})  created in {row['create_ms']:.0f} ms",
                    flush=True,
                )
        small = denormals(folder, max(3, arguments.rounds // 3))
        print(f"denormals: off {small['off_ms']:.3f} ms, on {small['on_ms']:.3f} ms")
    result = {
        "what": "lowest latency of a round over that of our settings, variants in turns; 95 % intervals over rounds",
        "networks": networks, "denormals": small, "rounds": arguments.rounds, "seconds": arguments.seconds,
        "machine": {"cpu": environment.cpu_model(), "cores": cores, "load_1min": os.getloadavg()[0]},
        "packages": environment.versions(("onnxruntime", "numpy")),
    }  # fmt: skip
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
