"""From an ONNX file to the bytes of an engine: parse, configure, build.

Nothing here writes the engine or asks what machine this is; `export.engines.tensorrt` does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export import graph
from export.engines import trt_built, trt_layers
from export.engines.options import TensorRTOptions
from export.engines.trt_cache import CacheKey, TimingCache
from export.engines.trt_fit import kind_of
from export.engines.trt_messages import build_failure, no_builder, parser_failure
from export.engines.trt_refusals import OnnxFile
from export.engines.trt_versions import Dialect
from export.errors import BuildError
from export.progress import Progress
from export.runtime.remedies import Skipped, skipped_tactics
from export.runtime.trt_library import DTYPES, make_logger
from export.runtime.trt_progress import make_monitor


@dataclass(frozen=True)
class Job:
    """One engine to build.

    Attributes:
        source: the ONNX file.
        model: its content, as `trt_fit.fit` made it.
        flags: of the precisions in it, for a build without strong typing.
        fp32_layers: whose results are FP32 whatever the flags allow.
        batch_sizes: ascending; a profile each where the file's batch is dynamic.
        targets: members of `ComputeCapability`; empty is TensorRT-RTX's default, and always empty for TensorRT.
        options: of the builder.
        cache_key: what the timing cache belongs to; None builds without one.
        library: name and version, for messages.
        inspect: whether the finished engine can be loaded here and asked for its layers; TensorRT-RTX's builder tells
            them anyway.
    """

    source: Path
    model: onnx.ModelProto
    flags: tuple[str, ...]
    fp32_layers: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    targets: tuple[str, ...]
    options: TensorRTOptions
    cache_key: CacheKey | None
    library: str
    inspect: bool


@dataclass(frozen=True)
class Built:
    """An engine's bytes and what is known of it."""

    blob: bytes
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    layers: dict[str, Any]
    """`network` and `engine`, each with `summary` and `layers` (see `trt_layers`, `trt_built`); `engine` is None where
    nobody could be asked."""
    notes: tuple[str, ...]
    skipped: Skipped | None
    """Kernels that the builder left out for want of memory."""


def build(trt: Any, chosen: Dialect, job: Job, progress: Progress) -> Built:
    """Parse, configure and build.

    Raises:
        BuildError: with the library's reason, and the node where it names one.
    """
    log = make_logger(trt)
    try:
        builder = trt.Builder(log)
    except (
        Exception
    ) as error:  # pybind11 says that a factory returned nothing, whatever the library's reason is
        raise no_builder(job.library, error, log) from error
    typed = job.options.strong_typing and chosen.strong_typing
    flag = "STRONGLY_TYPED" if typed else "EXPLICIT_BATCH"
    network = builder.create_network(1 << int(getattr(trt.NetworkDefinitionCreationFlag, flag)))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(os.fspath(job.source)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise parser_failure(job.library, job.source.name, errors, log, job.model)

    config = builder.create_builder_config()
    _profiles(builder, config, network, job.batch_sizes)
    _configure(trt, chosen, config, job, typed)
    _hold_fp32(trt, config, network, job.fp32_layers)
    cache = None
    if job.cache_key is not None and job.options.timing_caches is not None:
        cache = TimingCache(config, job.options.timing_caches, job.cache_key)
    monitor = None
    if chosen.progress_monitor:
        monitor = config.progress_monitor = make_monitor(trt, progress)
    found = trt_layers.network_layers(network)
    inputs = tuple(_tensor(network.get_input(index)) for index in range(network.num_inputs))
    outputs = tuple(_tensor(network.get_output(index)) for index in range(network.num_outputs))

    serialized = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.failure is not None:
        raise monitor.failure
    if serialized is None:
        raise build_failure(job.library, job.source.name, log, job.model)
    blob = bytes(serialized)
    if cache is not None:
        cache.save()
    notes = [cache.note] if cache is not None else []
    layers: dict[str, Any] = {
        "network": {"summary": trt_layers.network_summary(found), "layers": found},
        "engine": None,
    }
    try:
        text = log.layers or (_inspect(trt, log, blob) if job.inspect else "")
        layers["engine"] = trt_built.document(trt_built.read_layers(text)) if text else None
    except Exception as error:  # worth knowing, not worth losing the engine for
        notes.append(f"the engine's layers cannot be listed: {error}")
    skipped = skipped_tactics([*log.errors, *log.warnings])
    return Built(blob, inputs, outputs, layers, tuple(notes), skipped)


def onnx_file(model: onnx.ModelProto, name: str) -> OnnxFile:
    """What decides who can read a graph.

    Args:
        model: with the types of its tensors, as `graph.infer_shapes` leaves it.
        name: of its file, for messages.
    """
    return OnnxFile(name, kind_of(model), graph.opset(model), model)


def check_batches(model: onnx.ModelProto, name: str, sizes: Sequence[int]) -> None:
    """Refuse batch sizes that a file does not have.

    Args:
        model: the graph.
        name: of its file, for messages.
        sizes: batch sizes to build for, ascending.

    Raises:
        BuildError: none, one below 1, or another than the file's fixed batch.
    """
    if not sizes or sizes[0] < 1:
        raise BuildError(f"batch sizes {list(sizes)} are not possible", "give numbers of at least 1")
    fixed = graph.batch_size(model)
    if fixed is not None and tuple(sizes) != (fixed,):
        raise BuildError(
            f"{name} has a fixed batch of {fixed}, batch sizes {list(sizes)} were asked for",
            "export with a dynamic batch",
        )


def targets_of(trt: Any, chosen: Dialect, names: Sequence[str]) -> tuple[str, ...]:
    """Members of `ComputeCapability` for names such as `8.6`, `sm86` or `SM86`; each once, in their order.

    Raises:
        BuildError: a name that this version does not know.
    """
    if not chosen.compute_capabilities:
        return ()
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    plain = [str(name).upper().replace(".", "") for name in names]
    targets = tuple(dict.fromkeys(name if name.startswith("SM") else f"SM{name}" for name in plain))
    unknown = [name for name in targets if name not in known]
    if unknown:
        raise BuildError(f"unknown compute capability {unknown[0]}", f"this version knows {', '.join(known)}")
    return targets


def _profiles(builder: Any, config: Any, network: Any, sizes: Sequence[int]) -> None:
    """One optimization profile a batch size, so that each has kernels chosen for it."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [tensor for tensor in tensors if -1 in tuple(tensor.shape)]
    for size in sizes if dynamic else ():
        profile = builder.create_optimization_profile()
        for tensor in dynamic:
            shape = (size, *tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _configure(trt: Any, chosen: Dialect, config: Any, job: Job, typed: bool) -> None:
    options = job.options
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.tactic_dram_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, options.tactic_dram_bytes)
    if job.targets:
        config.num_compute_capabilities = len(job.targets)
        for index, name in enumerate(job.targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if chosen.optimization_level and options.optimization_level is not None:
        config.builder_optimization_level = int(options.optimization_level)
    if options.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper())
        config.hardware_compatibility_level = level
    flags = [] if typed else list(job.flags)
    flags += ["VERSION_COMPATIBLE"] if options.version_compatible else []
    flags += ["STRIP_PLAN", "REFIT_IDENTICAL"] if options.strip_weights else []
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))


def _hold_fp32(trt: Any, config: Any, network: Any, names: Sequence[str]) -> None:
    """Make layers compute in FP32 and hand on FP32; a node's second layer is named after it, with a number."""
    if not names:
        return
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if layer.name in names:
            layer.precision = trt.DataType.FLOAT
            for index in range(layer.num_outputs):
                layer.set_output_type(index, trt.DataType.FLOAT)


def _inspect(trt: Any, log: Any, blob: bytes) -> str:
    """What the engine inspector says, JSON; '' where the engine cannot be loaded."""
    runtime = trt.Runtime(log)  # outlives its engine
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        return ""
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def _tensor(tensor: Any) -> dict[str, Any]:
    shape = ["batch" if int(dim) < 0 else int(dim) for dim in tuple(tensor.shape)]
    return {
        "name": tensor.name,
        "dtype": DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower()),
        "shape": shape,
    }
