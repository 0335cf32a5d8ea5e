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
from export.engines import trt_layers
from export.engines.options import TensorRTOptions
from export.engines.trt_cache import CacheKey, TimingCache
from export.engines.trt_messages import build_failure, make_logger, parser_failure
from export.engines.trt_operators import check_operators
from export.engines.trt_progress import make_monitor
from export.engines.trt_versions import Dialect, parse_version
from export.errors import BuildError
from export.progress import Progress

# As in export.precision.bf16.
_BF16_OPSET = 22
DTYPES = {"UINT8": "uint8", "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Job:
    """One engine to build.

    Attributes:
        source: the ONNX file.
        model: its content.
        batch_sizes: ascending; a profile each where the file's batch is dynamic.
        targets: members of `ComputeCapability`; empty is TensorRT-RTX's default, and always empty for TensorRT.
        options: of the builder.
        cache_key: what the timing cache belongs to; None builds without one.
        library: name and version, for messages.
        inspect: whether the finished engine can be loaded here and asked for its layers.
    """

    source: Path
    model: onnx.ModelProto
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
    """`network` and `engine`, each with `summary` and its layers; `engine` is None where it could not be asked."""
    notes: tuple[str, ...]


def build(trt: Any, chosen: Dialect, job: Job, progress: Progress) -> Built:
    """Parse, configure and build.

    Raises:
        BuildError: with the library's reason, and the node where it names one.
    """
    log = make_logger(trt)
    builder = trt.Builder(log)
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
    if job.inspect:
        try:
            layers["engine"] = _inspect(trt, log, blob)
        except Exception as error:  # worth knowing, not worth losing the engine for
            notes.append(f"the engine's layers cannot be listed: {error}")
    return Built(blob, inputs, outputs, layers, tuple(notes))


def kind_of(model: onnx.ModelProto) -> str:
    """Precision of an ONNX file: `int8` where it has Q/DQ, else `fp16`, `bf16` or `fp32` by its tensors."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    types = set(graph.value_types(model).values())
    types |= {a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    for name in ("FLOAT16", "BFLOAT16"):
        if getattr(onnx.TensorProto, name) in types:
            return {"FLOAT16": "fp16", "BFLOAT16": "bf16"}[name]
    return "fp32"


def precision_flags(model: onnx.ModelProto, chosen: Dialect) -> list[str]:
    """Members of `BuilderFlag` that let a weakly typed build use the precisions of the file, and no others."""
    types = set(graph.value_types(model).values())
    flags = []
    if onnx.TensorProto.FLOAT16 in types:
        flags.append("FP16")
    if onnx.TensorProto.BFLOAT16 in types and chosen.bf16:
        flags.append("BF16")
    if kind_of(model) == "int8":
        flags.append("INT8")
    return flags


def check_model(
    library: str, chosen: Dialect, model: onnx.ModelProto, path: Path, sizes: Sequence[int]
) -> None:
    """Refuse what this version cannot read, before it is asked to.

    Args:
        library: name and version, `"tensorrt 10.3.0"`.
        chosen: how that version is spoken to.
        model: the graph.
        path: its file, for messages.
        sizes: batch sizes to build for.

    Raises:
        BuildError: impossible batch sizes, or an operator set, a type or (TensorRT, not RTX) an operator that this
            version does not read.
    """
    if not sizes or sizes[0] < 1:
        raise BuildError(f"batch sizes {list(sizes)} are not possible", "give numbers of at least 1")
    fixed = graph.batch_size(model)
    if fixed is not None and tuple(sizes) != (fixed,):
        raise BuildError(
            f"{path.name} has a fixed batch of {fixed}, batch sizes {list(sizes)} were asked for",
            "export with a dynamic batch",
        )
    check_precision(library, chosen, kind_of(model))
    check_opset(library, chosen, graph.opset(model), path.name)
    if not chosen.half_qdq:
        halves = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
        if any(n.op_type == "QuantizeLinear" and n.input[1] in halves for n in model.graph.node):
            raise BuildError(
                f"{library} cannot read Q/DQ on FP16 tensors", "use the FP16 file, or a newer TensorRT"
            )
    name, _, version = library.partition(" ")
    if name == "tensorrt":
        check_operators(model, parse_version(version))


def check_precision(library: str, chosen: Dialect, kind: str) -> None:
    """Refuse a kind of file that this version does not read.

    Raises:
        BuildError: BF16 files, whose operators are of opset 22, with a parser that ends before it.
    """
    if kind == "bf16" and not (chosen.bf16 and chosen.max_opset >= _BF16_OPSET):
        raise BuildError(
            f"{library} reads no BF16 files: they need opset {_BF16_OPSET}",
            "use FP16 here, or TensorRT 10.15 or later",
        )


def check_opset(library: str, chosen: Dialect, opset: int, file: str) -> None:
    """Refuse an operator set that this version does not read.

    Raises:
        BuildError: says which ones it reads.
    """
    if not chosen.min_opset <= opset <= chosen.max_opset:
        raise BuildError(
            f"{file} has opset {opset}, {library} reads {chosen.min_opset} to {chosen.max_opset}",
            f"export with opset {min(20, chosen.max_opset)}",
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
    if not chosen.compute_capabilities:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if chosen.optimization_level and options.optimization_level is not None:
        config.builder_optimization_level = int(options.optimization_level)
    if options.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper())
        config.hardware_compatibility_level = level
    flags = [] if typed else precision_flags(job.model, chosen)
    flags += ["VERSION_COMPATIBLE"] if options.version_compatible else []
    flags += ["STRIP_PLAN", "REFIT_IDENTICAL"] if options.strip_weights else []
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))


def _inspect(trt: Any, log: Any, blob: bytes) -> dict[str, Any] | None:
    runtime = trt.Runtime(log)
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        return None
    information = trt_layers.engine_layers(trt, engine)
    return {"summary": trt_layers.engine_summary(information), **information}


def _tensor(tensor: Any) -> dict[str, Any]:
    shape = ["batch" if int(dim) < 0 else int(dim) for dim in tuple(tensor.shape)]
    return {
        "name": tensor.name,
        "dtype": DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower()),
        "shape": shape,
    }
