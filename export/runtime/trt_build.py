"""From an ONNX file to the bytes of an engine of TensorRT or TensorRT-RTX: parse, configure, build.

What the file is, which options a version has, and where the engine goes, the caller knows. Names of the library are
looked up and integers never stored, because enumerations are renumbered between major versions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from .errors import EngineError
from .facts import Tensor
from .timing_cache import TimingCache
from .trt_library import DTYPES, collector_held, failure, make_logger, said
from .trt_progress import make_monitor

# The parser's codes say more than its texts, which are often the condition that failed, such as "false".
_REASONS = {
    "UNSUPPORTED_NODE": "the operator is not supported",
    "UNSUPPORTED_NODE_ATTR": "an attribute is not supported",
    "UNSUPPORTED_NODE_INPUT": "an input is not supported",
    "UNSUPPORTED_NODE_DATATYPE": "a data type is not supported",
    "UNSUPPORTED_NODE_DYNAMIC": "it is not supported with shapes decided at run time",
    "UNSUPPORTED_NODE_SHAPE": "a shape is not supported",
    "UNSUPPORTED_GRAPH": "the graph is not supported",
    "INVALID_NODE": "the node is not valid",
    "INVALID_GRAPH": "the graph is not valid",
    "MODEL_DESERIALIZE_FAILED": "the file cannot be read as ONNX",
    "MEM_ALLOC_FAILED": "out of memory",
}
_SHOWN = 3


@dataclass(frozen=True)
class Settings:
    """The settings of the builder. The caller asks for nothing that the version does not have.

    Attributes:
        strong_typing: precision is exactly what the ONNX file says.
        flags: members of `BuilderFlag`.
        fp32_layers: names of layers that compute in FP32 and hand on FP32, whatever the flags allow.
        batch_sizes: ascending; a profile each where the file's batch is dynamic.
        targets: members of `ComputeCapability`; TensorRT-RTX only, empty is its default.
        workspace_bytes: limit of the scratch memory of the engine's kernels; None is the library's.
        tactic_dram_bytes: limit of the memory that trying out one kernel may take; None is the library's.
        optimization_level: None is the library's.
        hardware_compatibility: member of `HardwareCompatibilityLevel`; '' is the library's.
        progress_monitor: the version has `IProgressMonitor`.
        inspect: the finished engine can be loaded here and asked for its layers; TensorRT-RTX's builder tells them
            anyway.
    """

    strong_typing: bool
    flags: Sequence[str] = ()
    fp32_layers: Sequence[str] = ()
    batch_sizes: Sequence[int] = (1,)
    targets: Sequence[str] = ()
    workspace_bytes: int | None = None
    tactic_dram_bytes: int | None = None
    optimization_level: int | None = None
    hardware_compatibility: str = ""
    progress_monitor: bool = False
    inspect: bool = True


@dataclass(frozen=True)
class CachePlace:
    """Where the timing cache lies, and what it belongs to (`timing_cache.TimingCache`)."""

    path: str
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """An engine's bytes and what is known of it."""

    blob: bytes
    inputs: tuple[Tensor, ...]
    """The batch is `"batch"` where it is dynamic."""
    outputs: tuple[Tensor, ...]
    layers: int
    """Of the parsed network."""
    layer_list: str
    """Those of the engine: the inspector's JSON or the builder's message; '' where nobody could be asked."""
    cache_reused: bool
    warnings: Sequence[str]
    """Of the library, while it built."""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class ParserFault:
    """One error of the ONNX parser."""

    text: str
    code: str
    index: int
    """Of the node; negative where it is none's."""
    name: str = ""
    """Of the node; from TensorRT 10 on."""
    operator: str = ""

    def __str__(self) -> str:
        text = self.text
        if "Plugin not found" in text:  # the parser's last resort for an operator that it does not know
            text = "the operator is not supported"
        elif text in ("", "false") or text.isidentifier():
            text = _REASONS.get(self.code, self.code)
        elif self.code in _REASONS and self.code != "INVALID_NODE":
            text = f"{_REASONS[self.code]}: {text}"
        named = self.name or self.operator
        return f"{describe(self.name, self.operator)}: {text}" if named else text


@dataclass(frozen=True)
class Nodes:
    """What the caller knows of the file's nodes, for messages."""

    named: Callable[[ParserFault], ParserFault]
    """Adds name and operator of the node, where only its index is given."""
    mentioned: Callable[[str], Sequence[str]]
    """The nodes whose names occur in a text."""


UNKNOWN_NODES = Nodes(lambda fault: fault, lambda text: ())


def describe(name: str, operator: str) -> str:
    """`node NAME (operator OP)`."""
    return f"node {name or 'without a name'}" + (f" (operator {operator})" if operator else "")


@collector_held()
def build(
    trt: Any,
    backend: str,
    source: str,
    settings: Settings,
    *,
    progress: Callable[[int, int, str], None],
    name: str = "",
    cache: CachePlace | None = None,
    emit: Callable[[str], None] | None = None,
    nodes: Nodes = UNKNOWN_NODES,
    look: Callable[[Any], None] = lambda network: None,
) -> Plan:
    """Parse, configure and build.

    Args:
        trt: the library.
        backend: its name.
        source: path of the ONNX file.
        settings: of the builder.
        progress: called with the builder's top-level steps; what it raises cancels the build.
        name: of the file, for messages; its own by default.
        cache: the timing cache; None builds without one.
        emit: receives the library's warnings and errors when they come.
        nodes: what the caller knows of the file's nodes.
        look: is shown the parsed network.

    Raises:
        EngineError: with the library's reason.
    """
    library, name = f"{backend} {trt.__version__}", name or os.path.basename(source)
    log = make_logger(trt, emit)
    builder = _builder(trt, library, log)
    flag = "STRONGLY_TYPED" if settings.strong_typing else "EXPLICIT_BATCH"
    network = builder.create_network(1 << int(getattr(trt.NetworkDefinitionCreationFlag, flag)))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(source):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise parse_failure(library, name, errors, log, nodes)
    look(network)
    config = builder.create_builder_config()
    _profiles(builder, config, network, settings.batch_sizes)
    _configure(trt, config, settings)
    _hold_fp32(trt, config, network, settings.fp32_layers)
    timings = TimingCache(config, cache.path, cache.facts) if cache is not None else None
    monitor = None
    if settings.progress_monitor:
        monitor = config.progress_monitor = make_monitor(trt, progress)
    inputs = tuple(_tensor(network.get_input(index)) for index in range(network.num_inputs))
    outputs = tuple(_tensor(network.get_output(index)) for index in range(network.num_outputs))
    serialized = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.failure is not None:
        raise monitor.failure
    if serialized is None:
        raise build_failure(library, name, log, nodes)
    blob = bytes(serialized)
    notes = []
    if timings is not None:
        timings.save()
        notes.append(timings.note)
    layer_list = ""
    try:
        layer_list = log.layers or (_inspected(trt, log, blob) if settings.inspect else "")
    except Exception as error:  # worth knowing, not worth losing the engine for
        notes.append(f"the engine's layers cannot be listed: {error}")
    return Plan(
        blob=blob,
        inputs=inputs,
        outputs=outputs,
        layers=int(network.num_layers),
        layer_list=layer_list,
        cache_reused=timings is not None and timings.reused,
        warnings=[*log.errors, *log.warnings],
        notes=notes,
    )


def parse_failure(
    library: str, name: str, errors: Sequence[Any], log: Any, nodes: Nodes = UNKNOWN_NODES
) -> EngineError:
    """The error for an ONNX file that was not parsed.

    Args:
        library: name and version.
        name: of the ONNX file.
        errors: the parser's.
        log: logger, used where the parser has no errors.
        nodes: what is known of the file's nodes.
    """
    texts = list(dict.fromkeys(str(nodes.named(_fault(error))) for error in errors)) or said(log)
    more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return EngineError(f"{library} cannot read {name}", said=[*texts[:_SHOWN], *more], beside=log.warnings)


def build_failure(library: str, name: str, log: Any, nodes: Nodes = UNKNOWN_NODES) -> EngineError:
    """The error for a network that was parsed but not built; names the ONNX nodes that the library mentions."""
    found = nodes.mentioned("; ".join(said(log)))
    where = f": at {', '.join(found)}" if found else ""
    return failure(f"{library} cannot build an engine from {name}{where}", log, "")


def _builder(trt: Any, library: str, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except Exception as error:  # pybind11: a factory returned nothing, whatever the library's reason is
        reasons = said(log, str(error))
        raise EngineError(f"{library} cannot start", said=reasons, beside=log.warnings) from error


def _fault(error: Any) -> ParserFault:
    name, operator = (
        str(getattr(error, label)() or "") if hasattr(error, label) else ""
        for label in ("node_name", "node_operator")
    )
    code = getattr(error.code(), "name", str(error.code()))
    return ParserFault(str(error.desc()).strip(), code, int(error.node()), name, operator)


def _profiles(builder: Any, config: Any, network: Any, sizes: Sequence[int]) -> None:
    """One optimization profile a batch size, so that each has kernels chosen for it."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    dynamic = [tensor for tensor in tensors if -1 in tuple(tensor.shape)]
    for size in sorted(sizes) if dynamic else ():
        profile = builder.create_optimization_profile()
        for tensor in dynamic:
            shape = (size, *tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)


def _configure(trt: Any, config: Any, settings: Settings) -> None:
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    if settings.tactic_dram_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.TACTIC_DRAM, settings.tactic_dram_bytes)
    if settings.targets:
        config.num_compute_capabilities = len(settings.targets)
        for index, name in enumerate(settings.targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the layers are not listed
    if settings.optimization_level is not None:
        config.builder_optimization_level = settings.optimization_level
    if settings.hardware_compatibility:
        level = getattr(trt.HardwareCompatibilityLevel, settings.hardware_compatibility)
        config.hardware_compatibility_level = level
    for flag in settings.flags:
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


def _inspected(trt: Any, log: Any, blob: bytes) -> str:
    """What the engine inspector says, JSON; '' where the engine cannot be loaded."""
    runtime = trt.Runtime(log)  # outlives its engine
    engine = runtime.deserialize_cuda_engine(blob)
    if engine is None:
        return ""
    return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))


def _tensor(tensor: Any) -> Tensor:
    dtype = DTYPES.get(tensor.dtype.name, tensor.dtype.name.lower())
    return Tensor(
        tensor.name, dtype, tuple("batch" if int(dim) < 0 else int(dim) for dim in tuple(tensor.shape))
    )
