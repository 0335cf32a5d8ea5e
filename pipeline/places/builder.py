"""Options and files of engines, as a target names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.results.rows.engines import Wanted

if TYPE_CHECKING:
    from export.engines.options import TensorRTOptions

BUILDER_KEYS: dict[str, tuple[str, ...]] = {
    "onnxruntime": (),
    "tensorrt": (
        "workspace_mb", "tactic_dram_mb", "optimization_level", "strong_typing", "version_compatible",
        "hardware_compatibility", "strip_weights",
    ),
    "tensorrt_rtx": ("workspace_mb", "tactic_dram_mb", "strip_weights"),
}  # fmt: skip
"""Options of TensorRT's builder by engine; they are keys of the target by the same names."""
_SUFFIX = {"onnxruntime": "onnx", "tensorrt": "engine", "tensorrt_rtx": "engine"}


def tensorrt_options(arguments: Mapping[str, Any]) -> TensorRTOptions:
    """The builder's options of a target; the defaults where its engine has none."""
    from export.engines.options import TensorRTOptions

    return TensorRTOptions(**{name: arguments[name] for name in BUILDER_KEYS[arguments["engine"]]})


def engine_file(wanted: Wanted) -> str:
    """Name of the file that an engine is built into."""
    return f"{wanted.id.split('/', 1)[1]}.{_SUFFIX[wanted.backend]}"
