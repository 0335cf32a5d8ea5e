"""Where TensorRT 8.6 to 11 and TensorRT-RTX differ in what this package calls. One table, nothing else.

Enumerations are renumbered between major versions, so names are looked up and integers never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from export.errors import BackendMissing

Version = tuple[int, ...]


@dataclass(frozen=True)
class Dialect:
    """How one generation of the library is spoken to."""

    network_flag: str
    """Member of `NetworkDefinitionCreationFlag`; needed on 10.x, ignored on 11 and RTX."""
    precision_flags: tuple[str, ...]
    """`BuilderFlag` members that let Q/DQ and FP16 take effect where there is no strong typing."""
    progress_monitor: bool
    """`IProgressMonitor` and `config.progress_monitor` exist."""
    timing_cache: bool
    """A timing cache is of use (on RTX it does nothing and asks for a GPU)."""
    optimization_level: bool
    """`config.builder_optimization_level` has an effect."""
    compute_capabilities: bool
    """Targets can be named and engines built without a GPU."""
    min_opset: int
    max_opset: int
    """Newest ONNX operator set that the parser is known to read."""
    half_qdq: bool
    """Q/DQ on FP16 tensors (opset 19) parse."""


_8_6 = Dialect("EXPLICIT_BATCH", ("FP16", "INT8"), False, True, True, False, 9, 17, False)
_10 = Dialect("STRONGLY_TYPED", (), True, True, True, False, 9, 20, True)
_10_LATE = Dialect("STRONGLY_TYPED", (), True, True, True, False, 9, 24, True)
_11 = Dialect("STRONGLY_TYPED", (), True, True, True, False, 9, 24, True)
_RTX = Dialect("STRONGLY_TYPED", (), True, False, False, True, 9, 24, True)

DIALECTS: dict[str, tuple[tuple[Version, Dialect], ...]] = {
    "tensorrt": (((8, 6), _8_6), ((10, 0), _10), ((10, 15), _10_LATE), ((11, 0), _11)),
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


def bindings_missing(trt: object, chosen: Dialect) -> list[str]:
    """Names that `chosen` promises but the loaded bindings `trt` do not have; empty when they agree."""
    wanted = [
        "Builder",
        "OnnxParser",
        "Runtime",
        "ILogger",
        "MemoryPoolType.WORKSPACE",
        "TensorIOMode.INPUT",
        f"NetworkDefinitionCreationFlag.{chosen.network_flag}",
        "Builder.build_serialized_network",
        "Builder.create_optimization_profile",
        "OnnxParser.parse_from_file",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.set_input_shape",
        "IExecutionContext.set_optimization_profile_async",
        "ICudaEngine.get_tensor_name",
        "ICudaEngine.get_tensor_mode",
        "ICudaEngine.get_tensor_dtype",
        "ICudaEngine.get_tensor_shape",
        "ICudaEngine.num_io_tensors",
        "ICudaEngine.num_optimization_profiles",
        "IBuilderConfig.set_memory_pool_limit",
        "IBuilderConfig.add_optimization_profile",
        *(f"BuilderFlag.{name}" for name in chosen.precision_flags),
    ]
    if chosen.progress_monitor:
        wanted += ["IProgressMonitor", "IBuilderConfig.progress_monitor"]
    if chosen.timing_cache:
        wanted += ["IBuilderConfig.create_timing_cache", "IBuilderConfig.set_timing_cache"]
    if chosen.optimization_level:
        wanted.append("IBuilderConfig.builder_optimization_level")
    if chosen.compute_capabilities:
        wanted += [
            "ComputeCapability",
            "IBuilderConfig.set_compute_capability",
            "Runtime.get_engine_validity",
        ]
    return [path for path in wanted if not _has(trt, path)]


def _has(thing: object, path: str) -> bool:
    for part in path.split("."):
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True
