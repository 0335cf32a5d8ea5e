"""A stand-in for trtexec that replays what its documentation and open source say of 8.5, 8.6, 10.3 and 11.4.

For tests only; no GPU, no TensorRT. It knows the options of its version and refuses others as trtexec does, prints its
lines, writes `--exportTimes` and `--exportOutput` in its formats, and "builds" a plan that holds the ONNX file, which
ONNX Runtime then runs, so that outputs are real. The times that it writes are made up.

Usage: replay_trtexec.py VERSION [trtexec's arguments]
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

BANNERS = {
    "8.5.2": "[TensorRT v8502]",
    "8.6.2": "[TensorRT v8602]",
    "10.3.0": "[TensorRT v100300]",
    "11.4.1": "[TensorRT v110401] [b106]",
}
COMMON = {
    "help", "onnx", "saveEngine", "loadEngine", "timingCacheFile", "memPoolSize", "minShapes", "optShapes", "maxShapes",
    "shapes", "loadInputs", "exportOutput", "exportTimes", "iterations", "warmUp", "duration", "exposeDMA", "verbose",
    "profilingVerbosity", "exportLayerInfo",
}  # fmt: skip
WEAK = {"fp16", "int8", "precisionConstraints", "layerPrecisions", "layerOutputTypes"}
OPTIONS = {
    "8.5.2": COMMON | WEAK | {"buildOnly", "noDataTransfers", "useSpinWait", "useCudaGraph"},
    "8.6.2": COMMON
    | WEAK
    | {"skipInference", "noDataTransfers", "useSpinWait", "useCudaGraph", "builderOptimizationLevel"},
    "10.3.0": COMMON
    | WEAK
    | {
        "skipInference", "stronglyTyped", "noDataTransfers", "useSpinWait", "useCudaGraph",
        "builderOptimizationLevel",
    },
    # 11 accepts the old switches with a warning; what is not left to a default must be said with the new ones.
    "11.4.1": COMMON
    | {"skipInference", "includeDataTransfers", "noSpinWait", "noCudaGraph", "builderOptimizationLevel"},
}  # fmt: skip
MAGIC = b"replayed plan of "
# As the engine inspector of 10.3 prints a fused convolution.
LAYERS = [
    {
        "Name": "conv + relu", "LayerType": "CaskConvolution", "ParameterType": "Convolution",
        "Inputs": [{"Name": "a", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Row major linear Int8 format"}],
        "Outputs": [{"Name": "b", "Dimensions": [1, 8, 8, 8], "Format/Datatype": "Row major linear Int8 format"}],
        "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
    }
]  # fmt: skip


def say(level: str, text: str) -> None:
    print(f"[11/25/2026-10:00:00] [{level}] {text}", flush=True)


def main(version: str, words: list[str]) -> int:
    banner = f"TensorRT.trtexec {BANNERS[version]} # trtexec {' '.join(words)}"
    print(f"&&&& RUNNING {banner}", flush=True)
    options = dict(word[2:].partition("=")[::2] for word in words)
    if "help" in options:
        print("=== Model Options ===")
        return 0
    for name in options:
        if name not in OPTIONS[version]:
            say("E", f"Unknown option: --{name} ")
            print(f"&&&& FAILED {banner}")
            return 1
    say("I", f"TensorRT version: {version}")
    failed = build(version, options) if "onnx" in options else run(version, options)
    print(f"&&&& {'FAILED' if failed else 'PASSED'} {banner}", flush=True)
    return failed


def build(version: str, options: dict[str, str]) -> int:
    content = Path(options["onnx"]).read_bytes()
    say("I", "Start parsing network model.")
    if content.startswith(b"bad"):
        say("E", '[TRT] ModelImporter.cpp:948: While parsing node number 3 [Frobnicate -> "x"]:')
        say(
            "E",
            "[TRT] ModelImporter.cpp:953: ERROR: onnxOpImporters.cpp:6119 In function importFallbackPluginImporter:",
        )
        say("E", "Failed to parse onnx file")
        return 1
    say("I", "Finished parsing network model. Parse time: 0.02")
    if os.environ.get("REPLAY_KILLED"):
        os.kill(os.getpid(), signal.SIGKILL)
    if b"too large" in content:
        say("E", "[TRT] Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.) out of memory")
        return 1
    cache = Path(options["timingCacheFile"])
    say(
        "I",
        f"[TRT] {'Global' if cache.exists() else 'Local'} timing cache in use. Profiling results are kept.",
    )
    if told := os.environ.get("REPLAY_BUILD"):  # lines as they are, and whether that is the end of it
        print(told, flush=True)
        if os.environ.get("REPLAY_FAILS"):
            return 1
    say("W", "[TRT] Detected layernorm nodes in FP16.")
    say("I", "[TRT] Engine generation completed in 0.9 seconds.")
    cache.write_bytes(b"timings")
    Path(options["saveEngine"]).write_bytes(MAGIC + version.encode() + b"\n" + content)
    if "exportLayerInfo" in options:
        details = options.get("profilingVerbosity") == "detailed"
        Path(options["exportLayerInfo"]).write_text(
            json.dumps({"Layers": LAYERS if details else ["conv + relu"]})
        )
    say("I", "Engine built in 1.1 sec.")
    if not {"skipInference", "buildOnly"} & set(options):
        say("E", "this stand-in builds only")
        return 1
    return 0


def run(version: str, options: dict[str, str]) -> int:
    plan = Path(options["loadEngine"]).read_bytes()
    head, _, onnx = plan.partition(b"\n")
    if head != MAGIC + version.encode():
        say(
            "E",
            "[TRT] IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Version tag does not match)",
        )
        say("E", "Engine deserialization failed")
        return 1
    transfers = (
        "includeDataTransfers" in options
        if version >= "11" and version[1] == "1"
        else "noDataTransfers" not in options
    )
    say("I", "Starting inference")
    if hold := os.environ.get("REPLAY_HOLD"):  # warm for as long as somebody watches
        for _ in range(2000):
            if Path(hold).exists():
                break
            time.sleep(0.01)
    count = max(int(options.get("iterations", 10)), int(1000 * int(options.get("duration", 3)) / 5))
    if "exportTimes" in options:
        Path(options["exportTimes"]).write_text(json.dumps([query(i, transfers) for i in range(count)]))
    if "exportOutput" in options:
        if not transfers:
            say("E", "this stand-in copies nothing out without transfers")
            return 1
        Path(options["exportOutput"]).write_text(outputs(onnx, options["loadInputs"]))
    say("I", "=== Performance summary ===")
    return 0


def query(index: int, transfers: bool) -> dict[str, float]:
    """One row of `--exportTimes`: 2 ms of compute, every tenth 2.5 ms; copies of 0.25 and 0.125 ms."""
    start = 5.0 * index
    h2d, compute, d2h = (
        (0.25 if transfers else 0.0),
        (2.5 if index % 10 == 9 else 2.0),
        (0.125 if transfers else 0.0),
    )
    return {
        "startEnqMs": start, "endEnqMs": start + 0.5, "startH2dMs": start, "endH2dMs": start + h2d,
        "startComputeMs": start + h2d, "endComputeMs": start + h2d + compute, "startD2hMs": start + h2d + compute,
        "endD2hMs": start + h2d + compute + d2h, "h2dMs": h2d, "computeMs": compute, "d2hMs": d2h,
        "latencyMs": h2d + compute + d2h,
    }  # fmt: skip


def outputs(onnx: bytes, inputs: str) -> str:
    import numpy as np
    import onnxruntime

    name, _, path = inputs.partition(":")
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    assert source.name == name
    dtype = "uint8" if source.type == "tensor(uint8)" else "float32"
    image = np.fromfile(path, dtype).reshape([-1, *source.shape[1:]])
    (logits,) = session.run(None, {name: image})
    values = ", ".join(f"{value:.6g}" for value in logits.reshape(-1))
    shape = "x".join(map(str, logits.shape))
    return f'[\n  {{ "name" : "logits", "dimensions" : "{shape}",\n    "values" : [ {values} ]\n  }}\n]\n'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
