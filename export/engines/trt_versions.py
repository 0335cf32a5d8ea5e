"""Where TensorRT 8.5 to 11 and TensorRT-RTX differ in what this package calls. One table, nothing else.

Enumerations are renumbered between major versions, so names are looked up and integers never stored. The names in
`required_names` are checked against what the real bindings of each version have (tests/export/engines).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from export.engines.options import HardwareCompatibility
from export.errors import BackendMissing

Version = tuple[int, ...]


@dataclass(frozen=True)
class Dialect:
    """How one generation of the library is spoken to."""

    strong_typing: bool
    """The precision of every layer can be (on 11 and RTX: always is) what the ONNX file says."""
    weak_typing: bool
    """The library may be left to choose precisions: `BuilderFlag.FP16` and `INT8` exist."""
    progress_monitor: bool
    """`IProgressMonitor` and `config.progress_monitor` exist."""
    timing_cache: bool
    """A timing cache is of use (on RTX it does nothing and asks for a GPU)."""
    optimization_level: bool
    """`config.builder_optimization_level` has an effect."""
    compute_capabilities: bool
    """TensorRT-RTX: targets can be named and engines built without a GPU."""
    min_opset: int
    max_opset: int
    """Newest ONNX operator set that the parser is known to read."""
    bf16: bool
    """BF16 tensors exist."""
    tactic_dram: bool
    """`MemoryPoolType.TACTIC_DRAM` exists."""
    named_errors: bool
    """The parser's errors name node and operator; before, only the node's index."""
    stripping: bool
    """Weights can be left out and put back from the ONNX file: `STRIP_PLAN`, `OnnxParserRefitter`."""
    version_compatible: bool
    """Engines for later versions can be built."""
    older_majors: tuple[int, ...]
    """Major versions before this one whose version-compatible engines load here."""
    hardware_compatibility: tuple[HardwareCompatibility, ...]
    """What can be asked for beside `none`."""


_8_6 = Dialect(
    strong_typing=False,
    weak_typing=True,
    progress_monitor=False,
    timing_cache=True,
    optimization_level=True,
    compute_capabilities=False,
    min_opset=9,
    max_opset=17,
    bf16=False,
    tactic_dram=False,
    named_errors=False,
    stripping=False,
    version_compatible=True,
    older_majors=(),
    hardware_compatibility=("ampere_plus",),
)
# What 8.5's open-source bindings lack beside 8.6's. It documents opset 17 and reads nothing of what came with it.
_8_5 = replace(
    _8_6, max_opset=16, optimization_level=False, version_compatible=False, hardware_compatibility=()
)
_10 = replace(
    _8_6,
    strong_typing=True,
    progress_monitor=True,
    max_opset=20,
    bf16=True,
    tactic_dram=True,
    named_errors=True,
    stripping=True,
    older_majors=(8,),
)
_10_9 = replace(_10, hardware_compatibility=("ampere_plus", "same_compute_capability"))
_10_15 = replace(_10_9, max_opset=24)
_11 = replace(_10_15, weak_typing=False, older_majors=(10,))
_RTX = replace(
    _11,
    timing_cache=False,
    optimization_level=False,
    compute_capabilities=True,
    version_compatible=False,
    older_majors=(),
    hardware_compatibility=(),
)

DIALECTS: dict[str, tuple[tuple[Version, Dialect], ...]] = {
    "tensorrt": (
        ((8, 5), _8_5),
        ((8, 6), _8_6),
        ((10, 0), _10),
        ((10, 9), _10_9),
        ((10, 15), _10_15),
        ((11, 0), _11),
    ),
    "tensorrt_rtx": (((1, 4), _RTX),),
}
"""Module to (first version, dialect), ascending."""


def parse_version(text: str) -> Version:
    """`"10.3.0.26"` to `(10, 3, 0, 26)`; stops at the first part that is not a number."""
    parts: list[int] = []
    for part in text.split("."):
        digits = "".join(ch for ch in part if ch.isdigit())
        if not digits or digits != part:
            break
        parts.append(int(part))
    return tuple(parts)


def dialect(module: str, version: str) -> Dialect:
    """The dialect of `module` at `version`.

    Raises:
        BackendMissing: the version is older than the first known one.
    """
    chosen: Dialect | None = None
    for first, entry in DIALECTS[module]:
        if parse_version(version) >= first:
            chosen = entry
    if chosen is None:
        oldest = ".".join(map(str, DIALECTS[module][0][0]))
        raise BackendMissing(f"{module} {version} is too old", f"install {oldest} or later")
    return chosen


def required_names(chosen: Dialect) -> list[str]:
    """Every name of the bindings that this package uses with a dialect, building and running."""
    wanted = [
        "Builder.build_serialized_network",
        "Builder.create_builder_config",
        "Builder.create_network",
        "Builder.create_optimization_profile",
        "EngineInspector.get_engine_information",
        "IBuilderConfig.add_optimization_profile",
        "IBuilderConfig.profiling_verbosity",
        "IBuilderConfig.set_flag",
        "IBuilderConfig.set_memory_pool_limit",
        "ICudaEngine.create_engine_inspector",
        "ICudaEngine.create_execution_context",
        "ICudaEngine.get_tensor_dtype",
        "ICudaEngine.get_tensor_mode",
        "ICudaEngine.get_tensor_name",
        "ICudaEngine.get_tensor_shape",
        "ICudaEngine.num_io_tensors",
        "ICudaEngine.num_optimization_profiles",
        "IExecutionContext.active_optimization_profile",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_input_shape",
        "IExecutionContext.set_optimization_profile_async",
        "IExecutionContext.set_tensor_address",
        "ILayer.get_input",
        "ILayer.get_output",
        "ILayer.name",
        "ILayer.num_inputs",
        "ILayer.num_outputs",
        "ILayer.type",
        "ILogger.Severity.ERROR",
        "ILogger.Severity.INTERNAL_ERROR",
        "ILogger.Severity.WARNING",
        "INetworkDefinition.get_input",
        "INetworkDefinition.get_layer",
        "INetworkDefinition.get_output",
        "INetworkDefinition.num_inputs",
        "INetworkDefinition.num_layers",
        "INetworkDefinition.num_outputs",
        "IOptimizationProfile.set_shape",
        "ITensor.dtype",
        "ITensor.name",
        "ITensor.shape",
        "LayerInformationFormat.JSON",
        "MemoryPoolType.WORKSPACE",
        "OnnxParser.get_error",
        "OnnxParser.num_errors",
        "OnnxParser.parse_from_file",
        "ParserError.code",
        "ParserError.desc",
        "ParserError.node",
        "ProfilingVerbosity.DETAILED",
        "Runtime.deserialize_cuda_engine",
        "TensorIOMode.INPUT",
    ]
    wanted.append(
        f"NetworkDefinitionCreationFlag.{'STRONGLY_TYPED' if chosen.strong_typing else 'EXPLICIT_BATCH'}"
    )
    if chosen.weak_typing:
        wanted += ["BuilderFlag.FP16", "BuilderFlag.INT8", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"]
        wanted += ["BuilderFlag.OBEY_PRECISION_CONSTRAINTS", "ILayer.precision", "ILayer.set_output_type"]
        wanted += ["DataType.FLOAT"]
        wanted += ["BuilderFlag.BF16"] if chosen.bf16 else []
    if chosen.progress_monitor:
        wanted += [
            "IBuilderConfig.progress_monitor",
            "IProgressMonitor.phase_finish",
            "IProgressMonitor.phase_start",
            "IProgressMonitor.step_complete",
        ]
    if chosen.timing_cache:
        wanted += [
            "IBuilderConfig.create_timing_cache",
            "IBuilderConfig.get_timing_cache",
            "IBuilderConfig.set_timing_cache",
            "ITimingCache.combine",
            "ITimingCache.serialize",
        ]
    if chosen.optimization_level:
        wanted.append("IBuilderConfig.builder_optimization_level")
    if chosen.compute_capabilities:
        wanted += [
            "ComputeCapability",
            "DynamicShapesKernelSpecializationStrategy.EAGER",
            "EngineInvalidityDiagnostics",
            "EngineValidity.INVALID",
            "IBuilderConfig.num_compute_capabilities",
            "IBuilderConfig.set_compute_capability",
            "ICudaEngine.create_runtime_config",
            "IExecutionContext.is_stream_capturable",
            "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
            "Runtime.engine_header_size",
            "Runtime.get_engine_validity",
        ]
    if chosen.tactic_dram:
        wanted.append("MemoryPoolType.TACTIC_DRAM")
    if chosen.named_errors:
        wanted += ["ParserError.node_name", "ParserError.node_operator"]
    if chosen.stripping:
        wanted += [
            "BuilderFlag.REFIT_IDENTICAL",
            "BuilderFlag.STRIP_PLAN",
            "OnnxParserRefitter.get_error",
            "OnnxParserRefitter.num_errors",
            "OnnxParserRefitter.refit_from_file",
            "Refitter.refit_cuda_engine",
        ]
    if chosen.version_compatible:
        wanted += ["BuilderFlag.VERSION_COMPATIBLE", "Runtime.engine_host_code_allowed"]
    if chosen.hardware_compatibility:
        wanted.append("IBuilderConfig.hardware_compatibility_level")
        wanted += [f"HardwareCompatibilityLevel.{name.upper()}" for name in chosen.hardware_compatibility]
    return wanted


def bindings_missing(trt: object, chosen: Dialect) -> list[str]:
    """Names that `chosen` promises but the loaded bindings `trt` do not have; empty when they agree."""
    return [path for path in required_names(chosen) if not _has(trt, path)]


def _has(thing: object, path: str) -> bool:
    for part in path.split("."):
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True
