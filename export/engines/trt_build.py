"""From an ONNX file to the bytes of an engine on this machine: settings of the builder, and layers of the result.

Nothing here writes the engine or asks what machine this is; `export.engines.tensorrt` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import onnx

from export import graph
from export.engines import trt_built, trt_layers
from export.engines.options import TensorRTOptions
from export.engines.trt_fit import Fitted, kind_of
from export.engines.trt_messages import nodes_of
from export.engines.trt_refusals import OnnxFile
from export.engines.trt_versions import Dialect
from export.errors import BuildError, EngineError
from export.progress import Progress
from export.runtime import trt_build
from export.runtime.facts import Tensor
from export.runtime.remedies import Skipped, skipped_tactics
from export.runtime.trt_build import CachePlace, Settings


class Layers(TypedDict):
    """`<engine>.layers.json`."""

    network: trt_layers.NetworkDocument
    engine: trt_built.Document | None
    """None where nobody could be asked."""


@dataclass(frozen=True)
class Built:
    """An engine's bytes and what is known of it."""

    blob: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: Layers
    notes: tuple[str, ...]
    skipped: Skipped | None
    """Kernels that the builder left out because memory did not suffice."""


def settings_of(
    chosen: Dialect,
    options: TensorRTOptions,
    fitted: Fitted,
    batch_sizes: Sequence[int],
    targets: Sequence[str],
    *,
    inspect: bool,
) -> Settings:
    """The settings of the builder.

    Args:
        chosen: how the version is spoken to.
        options: that were asked for, and not refused.
        fitted: the graph for this version.
        batch_sizes: ascending.
        targets: members of `ComputeCapability`.
        inspect: whether the finished engine can be loaded here and asked for its layers.
    """
    typed = options.strong_typing and chosen.strong_typing
    flags = [] if typed else list(fitted.flags)
    flags += ["VERSION_COMPATIBLE"] if options.version_compatible else []
    flags += ["STRIP_PLAN", "REFIT_IDENTICAL"] if options.strip_weights else []
    compatible = options.hardware_compatibility
    return Settings(
        strong_typing=typed,
        flags=flags,
        fp32_layers=fitted.fp32_layers,
        batch_sizes=batch_sizes,
        targets=targets,
        workspace_bytes=options.workspace_bytes,
        tactic_dram_bytes=options.tactic_dram_bytes,
        optimization_level=options.optimization_level if chosen.optimization_level else None,
        hardware_compatibility="" if compatible == "none" else compatible.upper(),
        progress_monitor=chosen.progress_monitor,
        inspect=inspect,
    )


def build(
    trt: Any,
    backend: str,
    source: Path,
    model: onnx.ModelProto,
    settings: Settings,
    cache: CachePlace | None,
    progress: Progress,
) -> Built:
    """Parse, configure and build.

    Args:
        trt: the library.
        backend: its name.
        source: the ONNX file.
        model: its content.
        settings: of the builder.
        cache: the timing cache; None builds without one.
        progress: called with the builder's top-level steps.

    Raises:
        BuildError: with the library's reason, and the node where it names one.
    """
    network: list[trt_layers.NetworkLayer] = []
    try:
        plan = trt_build.build(
            trt,
            backend,
            str(source),
            settings,
            progress=progress,
            cache=cache,
            nodes=nodes_of(model),
            look=lambda parsed: network.extend(trt_layers.network_layers(parsed)),
        )
    except EngineError as error:
        raise BuildError(error.what, error.fix) from error
    notes = list(plan.notes)
    layers: Layers = {
        "network": {"summary": trt_layers.network_summary(network), "layers": network},
        "engine": None,
    }
    try:
        if plan.layer_list:
            layers["engine"] = trt_built.document(trt_built.read_layers(plan.layer_list))
    except Exception as error:  # worth knowing, not worth losing the engine for
        notes.append(f"the engine's layers cannot be listed: {error}")
    return Built(plan.blob, plan.inputs, plan.outputs, layers, tuple(notes), skipped_tactics(plan.warnings))


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
