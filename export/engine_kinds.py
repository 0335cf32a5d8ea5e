"""What engines there are and what each can do: one entry a back end, without importing any of their libraries.

The config's `targets.*.engine` and its checks, defaults, file names, packages, `doctor`, messages and the documentation
read this table; `export.engines.BACKENDS` has the back end of each entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class EngineKind:
    """A kind of engine.

    Attributes:
        name: in the config, and of the Python module.
        label: in messages and reports.
        builds: where, for the documentation.
        runs: where.
        fits: what an engine is for.
        suffix: of its file.
        distributions: that provide the module; the first one installed counts.
        lacks: precisions that it cannot be built in, each with the reason and what to do.
        builder: keys of a target that decide what is built.
        options: further keys of a target that are for this kind alone, or for few.
        gpu: engines run on the GPU, and are bound to what it is; else they run on the CPU.
        tensorrt: TensorRT's builder makes them, so that its versions, options, layers and refusals count; else the
            engine file is what its back end makes of the ONNX file alone.
        one_gpu: an engine is for the very model of GPU that it was built on.
        alone: keys that make no sense for an `ssh://` device, which builds for itself alone.
        triton: the backend and the platform that run it in Triton's configuration; empty where Triton has none.
    """

    name: str
    label: str
    builds: str
    runs: str
    fits: str
    suffix: str
    distributions: tuple[str, ...]
    lacks: dict[str, tuple[str, str]] = field(default_factory=dict)
    builder: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    gpu: bool = True
    tensorrt: bool = False
    one_gpu: bool = False
    alone: tuple[str, ...] = ()
    triton: tuple[str, ...] = ()

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that it can be built in."""
        return tuple(precision for precision in PRECISIONS if precision not in self.lacks)

    @property
    def onnx(self) -> bool:
        """The engine file is an ONNX file, which runs anywhere."""
        return self.suffix == "onnx"


ENGINE_KINDS: dict[str, EngineKind] = {
    kind.name: kind
    for kind in (
        EngineKind(
            name="onnxruntime",
            label="ONNX Runtime",
            builds="anywhere",
            runs="anywhere",
            fits="any machine: the engine file is the ONNX file",
            suffix="onnx",
            distributions=("onnxruntime-gpu", "onnxruntime"),
            # Its CPU has none for convolutions and products.
            lacks={"bf16": ("ONNX Runtime has no BF16 kernels here", "take fp16")},
            options=("threads",),
            gpu=False,
            triton=("onnxruntime", "onnxruntime_onnx"),
        ),
        EngineKind(
            name="tensorrt",
            label="TensorRT",
            builds="on the NVIDIA GPU that will run it",
            runs="there",
            fits="one version of TensorRT, one model of GPU",
            suffix="engine",
            tensorrt=True,
            one_gpu=True,
            distributions=("tensorrt", "tensorrt_cu13", "tensorrt_cu12"),
            builder=(
                "workspace_mb", "tactic_dram_mb", "optimization_level", "strong_typing", "version_compatible",
                "hardware_compatibility", "strip_weights",
            ),
            alone=("version_compatible", "hardware_compatibility", "strip_weights"),
            triton=("tensorrt", "tensorrt_plan"),
        ),
        EngineKind(
            name="tensorrt_rtx",
            label="TensorRT-RTX",
            builds="on any x86-64 Linux, without a GPU",
            runs="on the RTX GPUs that `compute_capabilities` names",
            fits="one version of TensorRT-RTX",
            suffix="engine",
            tensorrt=True,
            distributions=("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
            builder=("workspace_mb", "tactic_dram_mb", "strip_weights"),
            options=("compute_capabilities",),
            alone=("strip_weights",),
        ),
    )
}  # fmt: skip


def kinds_with(key: str) -> tuple[str, ...]:
    """Names of the kinds that a target's key is for; empty for keys of all."""
    return tuple(name for name, kind in ENGINE_KINDS.items() if key in (*kind.builder, *kind.options))


def special_keys() -> tuple[str, ...]:
    """A target's keys that are not for every kind, each once."""
    keys = [key for kind in ENGINE_KINDS.values() for key in (*kind.options, *kind.builder)]
    return tuple(dict.fromkeys(keys))
