"""TensorRT and TensorRT-RTX on the device through their Python API: build an engine, run it, time it.

What differs between versions comes from the host as `dialect`: the one table is `export.engines.trt_versions`.
Names are looked up; enumerations are renumbered between major versions.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Iterable

from export.runtime.trt_library import DTYPES, library, make_logger

from . import layers
from .errors import JobError
from .files import write_bytes


def build(
    onnx: str, engine: str, request: dict[str, Any], emit: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Build a plain engine file.

    Args:
        onnx: path of the ONNX file; precision is what it says.
        engine: path to write.
        request: `backend`, `dialect`, `batch_sizes`, and where given `workspace_mb`, `tactic_dram_mb`,
            `optimization_level`, `compute_capabilities`, `timing_cache` (a path).
        emit: receives `{"progress": [done, total, note]}` from the builder's top-level steps, and `{"log": line}`.

    Returns:
        `inputs`, `outputs`, `layers`, `versions`.

    Raises:
        JobError: the library's reason for failing, with the node where it names one.
    """
    backend, dialect = request["backend"], request["dialect"]
    trt = library(backend)
    log = make_logger(trt, lambda line: emit({"log": line}))
    try:
        builder = trt.Builder(log)
    except (
        Exception
    ) as error:  # pybind11 says that a factory returned nothing, whatever the library's reason is
        raise _failure(f"{backend} cannot start", log, log.errors or log.warnings or [str(error)]) from error
    typing = "STRONGLY_TYPED" if dialect["strong_typing"] else "EXPLICIT_BATCH"
    network = builder.create_network(1 << int(getattr(trt.NetworkDefinitionCreationFlag, typing)))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(onnx):
        errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise _failure("the ONNX file cannot be parsed", log, errors)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the layers are not told
    _profiles(builder, network, config, request["batch_sizes"])
    if request.get("workspace_mb"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(request["workspace_mb"]) << 20)
    if request.get("tactic_dram_mb"):
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, int(request["tactic_dram_mb"]) << 20)
    targets = request.get("compute_capabilities") or []
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    if dialect["optimization_level"] and request.get("optimization_level") is not None:
        config.builder_optimization_level = int(request["optimization_level"])
    for flag in () if dialect["strong_typing"] else dialect["weak_flags"]:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if not dialect["strong_typing"] and dialect["fp32_layers"]:
        _hold_fp32(trt, config, network, set(dialect["fp32_layers"]))
    cache = request.get("timing_cache") if dialect["timing_cache"] else None
    if cache:
        _open_cache(config, cache)
    monitor = _monitor(trt, emit) if dialect["progress_monitor"] else None
    if monitor is not None:
        config.progress_monitor = monitor
    facts = {
        "inputs": [_tensor(network.get_input(i)) for i in range(network.num_inputs)],
        "outputs": [_tensor(network.get_output(i)) for i in range(network.num_outputs)],
        "layers": int(network.num_layers),
        "versions": {backend: str(trt.__version__)},
    }
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise _failure("the engine cannot be built", log)
    plan = bytes(serialized)
    write_bytes(engine, plan)
    if cache:
        write_bytes(cache, bytes(config.get_timing_cache().serialize()))
    layers.keep(trt, log, plan, emit)
    return facts


def _hold_fp32(trt: Any, config: Any, network: Any, names: set[str]) -> None:
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if layer.name in names:
            layer.precision = trt.DataType.FLOAT
            for index in range(layer.num_outputs):
                layer.set_output_type(index, trt.DataType.FLOAT)


def _profiles(builder: Any, network: Any, config: Any, sizes: list[int]) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    dynamic = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    for size in sorted(sizes) if dynamic else ():
        profile = builder.create_optimization_profile()
        for tensor in dynamic:
            shape = (size, *tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _open_cache(config: Any, path: str) -> None:
    data = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            data = file.read()
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")  # of another GPU or version: start afresh
        config.set_timing_cache(cache, False)


def _tensor(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower()),
        "shape": ["batch" if int(dim) < 0 else int(dim) for dim in tuple(tensor.shape)],
    }


def _monitor(trt: Any, emit: Callable[[dict[str, Any]], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """The builder's phases as one count; called from the builder's threads, which must not see an exception."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._top = ("", 1)
            self._done = 0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                if parent is None and not self._top[0]:
                    self._top = (name, max(1, steps))
            self._report(name)

        def step_complete(self, name: str, step: int) -> bool:
            with self._lock:
                if name == self._top[0]:
                    self._done = max(self._done, step + 1)
            self._report(name)
            return True

        def phase_finish(self, name: str) -> None:
            self._report(name)

        def _report(self, note: str) -> None:
            try:
                emit({"progress": [self._done, self._top[1], note]})
            except Exception:  # the host is gone: the build goes on without it
                pass

    return Monitor()


def _parser_error(error: Any) -> str:
    parts = [str(error.desc()).strip() if hasattr(error, "desc") else str(error)]
    for label in ("node_name", "node_operator"):
        value = getattr(error, label, None)
        if callable(value) and value():
            parts.append("{} {}".format(label.replace("_", " "), value()))
    return ", ".join(parts)


def _failure(what: str, log: Any, said: Iterable[str] = (), fix: str = "", kind: str = "failed") -> JobError:
    """What failed, in the library's words: the parser's where given, else what the logger heard."""
    heard = [*said] or log.errors or log.warnings[-3:] or ["the library gave no reason"]
    return JobError(what, fix, kind, said=heard, beside=log.warnings)
