"""Engines and the ONNX files that they are built from, as the stages name and judge them, here and on devices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.files import read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.engines.options import TensorRTOptions

BUILDER_KEYS = {
    "tensorrt": (
        "workspace_mb", "tactic_dram_mb", "optimization_level", "strong_typing", "version_compatible",
        "hardware_compatibility", "strip_weights",
    ),
    "tensorrt_rtx": ("workspace_mb", "tactic_dram_mb", "strip_weights"),
}  # fmt: skip
"""Options of TensorRT's builder by engine; they are keys of the target by the same names."""
_SUFFIX = {"onnxruntime": "onnx", "tensorrt": "engine", "tensorrt_rtx": "engine"}


def tensorrt_options(arguments: Mapping[str, Any]) -> TensorRTOptions:
    """The builder's options of a target whose engine is TensorRT or TensorRT-RTX."""
    from export.engines.options import TensorRTOptions

    return TensorRTOptions(**{name: arguments[name] for name in BUILDER_KEYS[arguments["engine"]]})


def engine_file(row: Mapping[str, Any]) -> str:
    """Name of the file that a row's engine is built into."""
    return f"{row['id'].split('/', 1)[1]}.{_SUFFIX[row['backend']]}"


def onnx_path(inputs: Mapping[str, Path], name: str) -> Path:
    """An ONNX file by name: the fine-tuned one where there is one, else that of `precision`."""
    tuned = inputs["qad"] / name
    return tuned if tuned.is_file() else inputs["precision"] / name


def onnx_accuracy(inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Accuracy on the test set of every file of `onnx_path`, in ONNX Runtime, by name."""
    accuracy: dict[str, Any] = read_json(inputs["precision"] / "accuracy.json")
    accuracy.update(read_json(inputs["qad"] / "accuracy.json"))
    return accuracy


def accuracy_of_file(row: Mapping[str, Any], in_onnx_runtime: Mapping[str, Any]) -> dict[str, Any]:
    """What stands for an engine that does not run: its ONNX file's accuracy, and where that comes from."""
    source = "onnx_emulated" if row["precision"] == "bf16" else "onnx"
    return {"source": source, **in_onnx_runtime[row["onnx"]]}


def read_logits(path: Path) -> npt.NDArray[np.float32]:
    """Logits that an earlier stage stored, float32 [N, C]."""
    import numpy as np

    from figkd.files import read_array

    logits: npt.NDArray[np.float32] = np.array(read_array(path))
    return logits
