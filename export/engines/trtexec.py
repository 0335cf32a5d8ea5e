"""Arguments of TensorRT's command line `trtexec`, by its version. One table, nothing else.

Strong typing came with 10.0, `--skipInference` replaced `--buildOnly` in 8.6. The defaults of what is timed were
turned over in 11.0: until then transfers are on, and CUDA graph and spinning off; from then on transfers are off,
graph and spinning on, and only the opposite can be asked for. So nothing is left to a default here.

`--exposeDMA` keeps one query in flight instead of two, as `Engine.time` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from export.engines.options import LIBRARYS_LEVEL
from export.engines.trt_versions import parse_version
from export.errors import BackendMissing, BuildError

Version = tuple[int, ...]


@dataclass(frozen=True)
class Flags:
    """The arguments of one generation of trtexec; `{onnx}`, `{engine}`, `{cache}` and `{layers}` in arguments stand for
    paths."""

    build_only: str
    """Ends after the build."""
    strongly_typed: tuple[str, ...]
    """Precision is what the ONNX file says."""
    precision: Mapping[str, tuple[str, ...]]
    """Precision to flags, for a build without strong typing; empty where there is no such build."""
    optimization_level: bool
    """`--builderOptimizationLevel` exists."""
    time: Mapping[str, tuple[str, ...]]
    """Boundary (see `export.measure`) to flags."""
    infer: tuple[str, ...]
    """Outputs are asked for: inputs must be copied in and outputs out."""


# Without details the layers have no types.
_LAYERS = ("--profilingVerbosity=detailed", "--exportLayerInfo={layers}")
_WEAK = {"fp32": (), "fp16": ("--fp16",), "int8": ("--fp16", "--int8")}
_UNTIL_10 = {
    "engine": ("--useCudaGraph", "--useSpinWait", "--noDataTransfers", "--exposeDMA"),
    "engine+copies": ("--useCudaGraph", "--useSpinWait", "--exposeDMA"),
}
_FROM_11 = {
    "engine": ("--exposeDMA",),
    "engine+copies": ("--includeDataTransfers", "--exposeDMA"),
}
_8_5 = Flags("--buildOnly", (), _WEAK, False, _UNTIL_10, ())
_8_6 = Flags("--skipInference", (), _WEAK, True, _UNTIL_10, ())
_10 = Flags("--skipInference", ("--stronglyTyped",), _WEAK, True, _UNTIL_10, ())
_11 = Flags("--skipInference", (), {}, True, _FROM_11, ("--includeDataTransfers",))

TABLE: tuple[tuple[Version, Flags], ...] = (((8, 5), _8_5), ((8, 6), _8_6), ((10, 0), _10), ((11, 0), _11))
"""First version to flags, ascending."""


def flags(version: str) -> Flags:
    """The flags of a version.

    Raises:
        BackendMissing: it is older than the first known one.
    """
    chosen = [entry for first, entry in TABLE if parse_version(version) >= first]
    if not chosen:
        raise BackendMissing(
            f"trtexec {version or 'of unknown version'} is too old", "install TensorRT 8.5 or later"
        )
    return chosen[-1]


def build_arguments(
    table: Flags,
    *,
    precision: str,
    strong_typing: bool = True,
    workspace_mb: int | None = None,
    optimization_level: int | None = None,
    fp32_layers: Sequence[str] = (),
    shapes: Sequence[str] = (),
) -> list[str]:
    """Arguments of a build, with placeholders for its paths.

    Args:
        table: from `flags`.
        precision: of the ONNX file; counts without strong typing.
        strong_typing: where the version has it; false: a fallback for 10.x and older.
        workspace_mb: limit of scratch memory in MiB.
        optimization_level: 0 to 5.
        fp32_layers: layers that a build without strong typing must leave FP32.
        shapes: from `shape_flags`, for a file with a dynamic batch.

    Raises:
        BuildError: the version has no such option; `export.engines.trt_refusals` tells that earlier.
    """
    if not strong_typing and not table.precision:
        raise BuildError("this trtexec builds strongly typed networks only", "set strong_typing: true")
    if optimization_level not in (None, LIBRARYS_LEVEL) and not table.optimization_level:
        raise BuildError("this trtexec has no optimization levels", "leave optimization_level out")
    arguments = ["--onnx={onnx}", "--saveEngine={engine}", "--timingCacheFile={cache}"]
    arguments += [*_LAYERS, table.build_only]
    typed = strong_typing and (table.strongly_typed or not table.precision)
    arguments += [*(table.strongly_typed if typed else table.precision.get(precision, ())), *shapes]
    if fp32_layers and not typed:
        layers = ",".join(f"{name}:fp32" for name in fp32_layers)
        arguments += [
            "--precisionConstraints=obey",
            f"--layerPrecisions={layers}",
            f"--layerOutputTypes={layers}",
        ]
    if workspace_mb is not None:
        arguments.append(f"--memPoolSize=workspace:{workspace_mb}")
    if optimization_level is not None and table.optimization_level:
        arguments.append(f"--builderOptimizationLevel={optimization_level}")
    return arguments


def shape_flags(name: str, image: Sequence[int], batch_sizes: Sequence[int]) -> list[str]:
    """The one optimization profile that trtexec makes: smallest, first and largest of the batch sizes.

    Args:
        name: of the input.
        image: shape of one image.
        batch_sizes: the first is the one to optimise for.
    """
    pairs = (("min", min(batch_sizes)), ("opt", batch_sizes[0]), ("max", max(batch_sizes)))
    return [f"--{which}Shapes={name}:{'x'.join(map(str, (batch, *image)))}" for which, batch in pairs]
