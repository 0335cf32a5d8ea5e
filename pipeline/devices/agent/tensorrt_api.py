"""Building through the Python API of TensorRT or TensorRT-RTX on the device.

What differs between versions comes from the host as `dialect`: the one table is `export.engines.trt_versions`.
"""

from __future__ import annotations

import os

from export.runtime.files import write_bytes
from export.runtime.trt_build import CachePlace, Plan, Settings, build
from export.runtime.trt_library import library

from . import layers
from .requests import Answer, BuildRequest, DialectFlags, Emit


def build_engine(onnx: str, engine: str, request: BuildRequest, timing_cache: str, emit: Emit) -> Answer:
    """Build a plain engine file.

    Args:
        onnx: path of the ONNX file; precision is what it says.
        engine: path to write.
        request: what is asked.
        timing_cache: path of the timing cache; empty for none.
        emit: receives `{"progress": [done, total, note]}` from the builder's top-level steps, and `{"log": line}`.

    Returns:
        `inputs`, `outputs`, `layers`, `versions`, `timing_cache` (`none`, `new` or `reused`).

    Raises:
        ExportError: the library's reason for failing, with the node where it names one.
    """
    backend, dialect = request["backend"], request["dialect"]
    trt = library(backend)
    path = timing_cache if dialect["timing_cache"] else ""
    cache = CachePlace(path, {"file": os.path.basename(path)}) if path else None

    def progress(done: int, total: int, note: str) -> None:
        try:
            emit({"progress": [done, total, note]})
        except OSError:  # the disk is full: the engine may still fit
            pass

    plan = build(
        trt,
        backend,
        onnx,
        _settings(request, dialect),
        progress=progress,
        name="the ONNX file",
        cache=cache,
        emit=lambda line: emit({"log": line}),
    )
    write_bytes(engine, plan.blob)
    layers.keep(plan.layer_list)
    for note in plan.notes:
        emit({"log": note})
    return {
        "inputs": [tensor.to_json() for tensor in plan.inputs],
        "outputs": [tensor.to_json() for tensor in plan.outputs],
        "layers": plan.layers,
        "versions": {backend: str(trt.__version__)},
        "timing_cache": _cache_word(plan, cache),
    }


def _settings(request: BuildRequest, dialect: DialectFlags) -> Settings:
    strong, level = dialect["strong_typing"], request.get("optimization_level")
    return Settings(
        strong_typing=strong,
        flags=() if strong else dialect["weak_flags"],
        fp32_layers=() if strong else dialect["fp32_layers"],
        batch_sizes=request["batch_sizes"],
        targets=request.get("compute_capabilities") or (),
        workspace_bytes=_bytes(request.get("workspace_mb")),
        tactic_dram_bytes=_bytes(request.get("tactic_dram_mb")),
        optimization_level=int(level) if level is not None and dialect["optimization_level"] else None,
        progress_monitor=dialect["progress_monitor"],
    )


def _bytes(mebibytes: int | None) -> int | None:
    return int(mebibytes) << 20 if mebibytes else None


def _cache_word(plan: Plan, cache: CachePlace | None) -> str:
    if cache is None:
        return "none"
    return "reused" if plan.cache_reused else "new"
